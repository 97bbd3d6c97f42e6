// sm80_top_k's tiles, for the host's plan and the kernel. A policy changes speed, never results: a
// score is the same in every tile, and the best k keys are the same ones in every order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/core/top_list.h"

namespace qkv::kernels {

// Four warps, each with tile_q / 4 query rows and their lists. Q is padded to max_dim in registers,
// K in shared memory; V's width does not matter.
struct Sm80TopKPolicy {
  int32_t max_dim;
  bool rules;          // softcap, mask, bias, ALiBi; or where lists of 128 rows have no room
  int32_t tile_q;      // query rows of a block
  int32_t min_blocks;  // resident on a multiprocessor as far as registers go
};

inline constexpr Sm80TopKPolicy kSm80TopKPolicies[] = {
    {64, false, 128, 3}, {128, false, 128, 3}, {256, false, 128, 1},
    {64, true, 64, 4},   {128, true, 64, 3},   {256, true, 64, 2},
};

inline constexpr int32_t kSm80TopKMaxDim = 256;
inline constexpr int32_t kSm80TopKThreads = 128;
inline constexpr int32_t kSm80TopKStages = 3;  // tiles of K
// Keys of a step: as many as may wait beside an empty list, whatever a row finds among them.
inline constexpr int32_t kSm80TopKTileKv = kTopPending;

// The policy that serves widths d_qk up to `dim`, 0 <= dim <= kSm80TopKMaxDim; max_dim 0: there is
// none.
constexpr Sm80TopKPolicy sm80_top_k_policy(int32_t dim, bool rules) {
  for (const Sm80TopKPolicy& policy : kSm80TopKPolicies)
    if (dim <= policy.max_dim && policy.rules == rules) return policy;
  return {};
}

// Of all stages of K, behind which the lists lie. At first Q lies in all but the first and in the
// lists' room.
constexpr int32_t sm80_top_k_stage_bytes(const Sm80TopKPolicy& policy) {
  return 2 * policy.max_dim * kSm80TopKTileKv * kSm80TopKStages;
}

// Dynamic shared memory of a block in bytes, with lists of k keys.
constexpr int32_t sm80_top_k_smem_bytes(const Sm80TopKPolicy& policy, int32_t k) {
  return sm80_top_k_stage_bytes(policy) + policy.tile_q * top_list_bytes(k);
}

}  // namespace qkv::kernels
