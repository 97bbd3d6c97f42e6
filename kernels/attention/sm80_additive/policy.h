// sm80_additive's tiles, for the host's plan and the kernel. A policy changes speed, never results
// beyond rounding.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/sm80_additive/series.h"

namespace qkv::kernels {

// Four warps, each with tile_q / 4 query rows. max_dim serves d_qk and d_v: Q and V are padded to
// it in shared memory, O in registers. K is never there, its features are.
struct Sm80AdditivePolicy {
  int32_t max_dim;
  bool rules;          // softcap, mask, bias, ALiBi; also few queries, and a fixed split size
  int32_t tile_q;      // query rows of a block
  int32_t tile_kv;     // keys of a step
  int32_t min_blocks;  // resident on a multiprocessor as far as registers go
};

// Features of a row of Q are made anew for each block of keys, those of a key once for each tile of
// queries: both tiles as large as 255 registers allow, which hold tile_q * max_dim / 128 floats of
// O and tile_q * tile_kv / 128 of S.
inline constexpr Sm80AdditivePolicy kSm80AdditivePolicies[] = {
    {64, false, 128, 64, 2},
    {128, false, 128, 48, 2},
    {64, true, 64, 64, 2},
    {128, true, 64, 64, 2},
};

inline constexpr int32_t kSm80AdditiveMaxDim = 128;
inline constexpr int32_t kSm80AdditiveThreads = 128;
inline constexpr int32_t kSm80AdditiveChunk =
    8;  // dims whose features are in shared memory at once
inline constexpr int32_t kSm80AdditiveStages = 2;  // chunks: one is made while one is multiplied

// The policy that serves dims up to `dim`, 0 <= dim <= kSm80AdditiveMaxDim; max_dim 0: there is
// none.
constexpr Sm80AdditivePolicy sm80_additive_policy(int32_t dim, bool rules) {
  for (const Sm80AdditivePolicy& policy : kSm80AdditivePolicies)
    if (dim <= policy.max_dim && policy.rules == rules) return policy;
  return {};
}

// Bytes of a chunk's features: two of 2 bytes for each key, dim and harmonic.
constexpr int32_t sm80_additive_chunk_bytes(const Sm80AdditivePolicy& policy) {
  return policy.tile_kv * kSm80AdditiveChunk * kSeriesHarmonics * 4;
}

// Bytes of a chunk's marks: which keys are out of the series' range, 8 to a word, for each 4 dims.
constexpr int32_t sm80_additive_mark_bytes(const Sm80AdditivePolicy& policy) {
  return policy.tile_kv / 8 * (kSm80AdditiveChunk / 4) * 4;
}

// Dynamic shared memory of a block in bytes: a tile of Q and of V, the stages of features and of
// marks, the weights.
constexpr size_t sm80_additive_smem_bytes(const Sm80AdditivePolicy& policy) {
  const int32_t bytes =
      2 * policy.max_dim * (policy.tile_q + policy.tile_kv) + 4 * policy.max_dim +
      kSm80AdditiveStages * (sm80_additive_chunk_bytes(policy) + sm80_additive_mark_bytes(policy));
  return static_cast<size_t>(bytes);
}

}  // namespace qkv::kernels
