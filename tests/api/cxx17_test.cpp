// qkv.hpp and dlpack.hpp as a C++17 program uses them: compiled as C++17, without designated
// initialisers and spans.
#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

#include "qkv/dlpack.hpp"
#include "qkv/qkv.hpp"

static_assert(__cplusplus < 202002L, "this program is to be compiled as C++17");

int main() {
  // All scores are equal: O is the mean of V, of both halves of the keys and of all.
  const int64_t heads = 2, keys = 6, dim = 4;
  std::vector<float> q(heads * dim, 0.0f), k(heads * keys * dim, 1.0f), v(k.size()), o(q.size());
  for (size_t n = 0; n < v.size(); ++n) v[n] = static_cast<float>(n);
  std::vector<float> part(2 * o.size()), merged(o.size());
  std::vector<float> lse(2 * heads);
  std::vector<qkv::Tensor> o_parts, lse_parts;
  try {
    qkv::Attention a;
    a.q = qkv::bhsd(q.data(), 1, heads, 1, dim);
    a.k = qkv::bhsd(k.data(), 1, heads, keys, dim);
    a.v = qkv::bhsd(v.data(), 1, heads, keys, dim);
    a.o = qkv::bhsd(o.data(), 1, heads, 1, dim);
    qkv::attention(a);
    for (int64_t half = 0; half < 2; ++half) {
      qkv::Attention h = a;
      h.k = h.v = qkv::strided(v.data() + half * (keys / 2) * dim, {1, heads, keys / 2, dim},
                               {heads * keys * dim, keys * dim, dim, 1});
      h.o = qkv::bhsd(part.data() + half * heads * dim, 1, heads, 1, dim);
      h.lse = qkv::bhsd(lse.data() + half * heads, 1, heads, 1, 1);
      qkv::attention(h);
      o_parts.push_back(h.o);
      lse_parts.push_back(h.lse);
    }
    const std::array<qkv::Tensor, 2> lses{lse_parts[0], lse_parts[1]};
    qkv::merge(o_parts, lses, qkv::bhsd(merged.data(), 1, heads, 1, dim));
    if (qkv::Plan(a).text().empty() || !qkv::query(a).supported) return 1;
  } catch (const qkv::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  for (size_t n = 0; n < o.size(); ++n) {
    const float mean = static_cast<float>(n / dim * keys * dim + n % dim) + 2.5f * dim;
    if (std::fabs(o[n] - mean) > 1e-4f || std::fabs(merged[n] - mean) > 1e-4f) {
      std::fprintf(stderr, "o[%zu] is %g, merged %g, expected %g\n", n, static_cast<double>(o[n]),
                   static_cast<double>(merged[n]), static_cast<double>(mean));
      return 1;
    }
  }
  return 0;
}
