// Prefill of prompts of different lengths in one batch. Shorter prompts are padded; kv_lengths says
// where each ends, and whatever lies behind, even NaN, never influences a result.
#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <vector>

int main() {
  const int64_t batch = 3, longest = 12, heads = 2, dim = 32;
  const int64_t row = heads * dim, prompt = longest * row;
  int32_t lengths[batch] = {12, 5, 1};

  std::vector<float> q(batch * prompt, NAN), k = q, v = q, o = q;  // padding holds garbage
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t n = 0; n < lengths[b] * row; ++n) {
      const auto at = static_cast<size_t>(b * prompt + n);
      q[at] = std::sin(static_cast<float>(at * at % 877));
      k[at] = std::cos(static_cast<float>(at * at % 883));
      v[at] = std::sin(static_cast<float>(at * at % 907));
    }
  }
  qkv::attention({.q = qkv::bshd(q.data(), batch, longest, heads, dim),
                  .k = qkv::bshd(k.data(), batch, longest, heads, dim),
                  .v = qkv::bshd(v.data(), batch, longest, heads, dim),
                  .o = qkv::bshd(o.data(), batch, longest, heads, dim),
                  .causal = true,
                  .alignment = qkv::Alignment::kTopLeft,  // queries and keys both start at token 0
                  .kv_lengths = qkv::per_batch(lengths, batch)});

  // Each prompt alone, without padding, gives the same.
  float worst = 0;
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<float> alone(static_cast<size_t>(lengths[b] * row));
    qkv::attention({.q = qkv::bshd(q.data() + b * prompt, 1, lengths[b], heads, dim),
                    .k = qkv::bshd(k.data() + b * prompt, 1, lengths[b], heads, dim),
                    .v = qkv::bshd(v.data() + b * prompt, 1, lengths[b], heads, dim),
                    .o = qkv::bshd(alone.data(), 1, lengths[b], heads, dim),
                    .causal = true});
    for (size_t n = 0; n < alone.size(); ++n) {
      const float error = std::fabs(alone[n] - o[static_cast<size_t>(b * prompt) + n]);
      if (error > worst || std::isnan(error)) worst = error;
    }
  }
  std::printf("prompts of 12, 5 and 1 tokens in one call; largest difference from alone: %.1e\n",
              worst);
  return worst < 1e-5f ? 0 : 1;
}
