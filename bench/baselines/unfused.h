// The problem of the unfused baselines: what a program does that has a BLAS and no attention
// library. S = scale Q K^T is one matrix product, P = softmax(S) a pass over the whole of S, O = P
// V a second product. Nothing hidden is skipped: a causal mask only zeroes weights. On the CPU also
// additive scores, by a loop over all pairs; and of S the best keys alone, whose values are mixed.
#pragma once

#include <cstdint>

#include "qkv/qkv.h"

namespace qkv::bench {

// Contiguous tensors [batch, heads, seq, dim] of one type: f32, f16 or bf16.
struct Unfused {
  qkv_type type = QKV_TYPE_F32;
  int64_t batch = 1, heads_q = 1, heads_kv = 1;  // heads_kv divides heads_q
  int64_t s_q = 0, s_kv = 0, d_qk = 0, d_v = 0;
  float scale = 1;
  bool causal = false;                     // key j is visible to query i when j <= i + s_kv - s_q
  int64_t best = 0;                        // so many best keys alone, 1 for hard selection; 0: all
  const float* additive_weight = nullptr;  // [heads_q, d_qk], of additive scores

  // Keys that query i sees; the first ones.
  int64_t visible(int64_t i) const {
    if (!causal) return s_kv;
    const int64_t end = i + s_kv - s_q + 1;
    return end < 0 ? 0 : end;
  }
};

}  // namespace qkv::bench
