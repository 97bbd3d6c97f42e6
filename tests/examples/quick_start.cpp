// C++ quick start: causal self-attention over a batch of sequences, as in every layer of a language
// model. The memory is yours; qkv::bshd says how it is laid out.
#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <vector>

int main() {
  const int64_t batch = 2, seq = 16, heads = 4, dim = 64;
  std::vector<float> q(batch * seq * heads * dim), k = q, v = q, o = q;
  for (size_t n = 0; n < q.size(); ++n) {
    q[n] = std::sin(0.1f * static_cast<float>(n));
    k[n] = std::cos(0.3f * static_cast<float>(n));
    v[n] = static_cast<float>(n / (heads * dim) % seq);  // every value tells its position
  }
  const auto tensor = [&](std::vector<float>& memory) {
    return qkv::bshd(memory.data(), batch, seq, heads, dim);  // [batch, seq, heads, dim]
  };

  try {
    qkv::attention({.q = tensor(q),
                    .k = tensor(k),
                    .v = tensor(v),
                    .o = tensor(o),
                    .causal = true});  // token i sees tokens 0..i
  } catch (const qkv::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }

  // A token's output is a mean of the positions that it sees, so it lies between 0 and its own.
  bool right = true;
  for (size_t n = 0; n < o.size(); ++n) right = right && o[n] >= 0 && o[n] <= v[n] + 1e-5f;
  const size_t row = heads * dim;
  right = right && o[0] == 0 && o[row] > 0 && o[row] < 1 && o[(seq - 1) * row] > 1;
  std::printf("mean position that tokens 0, 1 and 15 look at: %.2f %.2f %.2f\n", o[0], o[row],
              o[(seq - 1) * row]);
  return right ? 0 : 1;
}
