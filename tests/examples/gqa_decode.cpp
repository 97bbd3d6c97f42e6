// Decoding with grouped queries and a KV cache: one new token a step. Eight query heads share two
// heads of K and V. The plan is made once; a step neither plans nor allocates.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <vector>

int main() {
  const int64_t capacity = 32, heads_q = 8, heads_kv = 2, dim = 64, tokens = 20;
  const int64_t q_row = heads_q * dim, kv_row = heads_kv * dim;
  std::vector<float> q(tokens * q_row), k(tokens * kv_row), v(tokens * kv_row);  // from the model
  for (size_t n = 0; n < q.size(); ++n) q[n] = std::sin(static_cast<float>(n * n % 613));
  for (size_t n = 0; n < k.size(); ++n) k[n] = std::cos(static_cast<float>(n * n % 761));
  for (size_t n = 0; n < v.size(); ++n) v[n] = std::sin(static_cast<float>(n * n % 499));

  std::vector<float> k_cache(capacity * kv_row), v_cache(capacity * kv_row);
  std::vector<float> out(tokens * q_row);
  int32_t length = 0;  // tokens in the cache: the keys past it are not looked at
  qkv::Attention step{.q = qkv::bshd(q.data(), 1, 1, heads_q, dim),
                      .k = qkv::bshd(k_cache.data(), 1, capacity, heads_kv, dim),
                      .v = qkv::bshd(v_cache.data(), 1, capacity, heads_kv, dim),
                      .o = qkv::bshd(out.data(), 1, 1, heads_q, dim),
                      .kv_lengths = qkv::per_batch(&length, 1)};
  const qkv::Plan plan(step);
  std::vector<std::byte> memory(plan.workspace_size() + 256);
  const auto workspace = (reinterpret_cast<uintptr_t>(memory.data()) + 255) / 256 * 256;

  for (int64_t t = 0; t < tokens; ++t) {
    std::copy_n(k.begin() + t * kv_row, kv_row, k_cache.begin() + t * kv_row);
    std::copy_n(v.begin() + t * kv_row, kv_row, v_cache.begin() + t * kv_row);
    length = static_cast<int32_t>(t + 1);
    step.q.data = q.data() + t * q_row;
    step.o.data = out.data() + t * q_row;
    plan.run(step, reinterpret_cast<void*>(workspace), plan.workspace_size());
  }

  // Token by token must give what one causal pass over all tokens gives.
  std::vector<float> expected(out.size());
  qkv::attention({.q = qkv::bshd(q.data(), 1, tokens, heads_q, dim),
                  .k = qkv::bshd(k.data(), 1, tokens, heads_kv, dim),
                  .v = qkv::bshd(v.data(), 1, tokens, heads_kv, dim),
                  .o = qkv::bshd(expected.data(), 1, tokens, heads_q, dim),
                  .causal = true});
  float worst = 0;
  for (size_t n = 0; n < out.size(); ++n) {
    const float error = std::fabs(out[n] - expected[n]);
    if (error > worst || std::isnan(error)) worst = error;
  }
  std::printf("%d tokens decoded; largest difference from one causal pass: %.1e\n", length, worst);
  return worst < 1e-5f && out.back() != 0 ? 0 : 1;
}
