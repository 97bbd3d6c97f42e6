// Packed QKV: one projection writes Q, K and V side by side into one buffer. Attention reads them
// where they are, by strides: nothing is copied, split or transposed.
#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <vector>

int main() {
  const int64_t batch = 2, seq = 10, heads = 4, dim = 32;

  // What x * W_qkv leaves: [batch, seq, 3 * heads, dim], in each row all heads of Q, of K, of V.
  std::vector<float> packed(batch * seq * 3 * heads * dim);
  for (size_t n = 0; n < packed.size(); ++n) packed[n] = std::sin(static_cast<float>(n * n % 991));

  const auto [q, k, v] = qkv::packed_qkv(packed.data(), batch, seq, heads, heads, dim);
  std::vector<float> out(batch * seq * heads * dim);
  const qkv::Tensor o = qkv::bshd(out.data(), batch, seq, heads, dim);
  qkv::attention({.q = q, .k = k, .v = v, .o = o, .causal = true});

  // The same with three tensors of their own: bit for bit the same answer.
  std::vector<float> parts[3];
  for (size_t part = 0; part < 3; ++part) {
    for (size_t row = 0; row < static_cast<size_t>(batch * seq); ++row) {
      const auto from = packed.begin() + static_cast<int64_t>(row * 3 + part) * heads * dim;
      parts[part].insert(parts[part].end(), from, from + heads * dim);
    }
  }
  std::vector<float> expected(out.size());
  qkv::attention({.q = qkv::bshd(parts[0].data(), batch, seq, heads, dim),
                  .k = qkv::bshd(parts[1].data(), batch, seq, heads, dim),
                  .v = qkv::bshd(parts[2].data(), batch, seq, heads, dim),
                  .o = qkv::bshd(expected.data(), batch, seq, heads, dim),
                  .causal = true});

  const bool same = out == expected;
  std::printf("one packed buffer, q.stride[2] = %lld elements from row to row: %s three tensors\n",
              static_cast<long long>(q.stride[2]), same ? "same bits as" : "DIFFERS from");
  return same ? 0 : 1;
}
