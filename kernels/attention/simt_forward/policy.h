// simt_forward's tiles, for the host's plan and the kernel. A policy changes speed, never results
// beyond rounding. Every tuned row cites its evidence.
#pragma once

#include <cstdint>

namespace qkv::kernels {

// `threads` = 16 lanes of columns x (threads / 16) groups of rows. Only d_v needs a bucket: O lives
// in registers. d_qk is walked in chunks.
struct SimtForwardPolicy {
  int32_t max_dim;     // serves d_v up to this
  int32_t tile_q;      // query rows of a block
  int32_t tile_kv;     // keys of a step
  int32_t threads;     // of a block
  int32_t min_blocks;  // resident on a multiprocessor as far as registers go: bounds the registers
};

// Untuned. A thread holds tile_q / groups rows of O and tile_kv / 16 columns of S: the largest tile
// that ptxas keeps in registers on every architecture.
inline constexpr SimtForwardPolicy kSimtForwardPolicies[] = {
    {64, 64, 64, 128, 3},
    {128, 64, 64, 128, 2},
    {256, 48, 64, 128, 2},
    {576, 32, 64, 128, 2},
};

inline constexpr int32_t kSimtForwardMaxDim = 576;  // of d_qk and d_v

// The policy that serves d_v, 0 <= d_v <= kSimtForwardMaxDim.
constexpr SimtForwardPolicy simt_forward_policy(int32_t d_v) {
  for (const SimtForwardPolicy& policy : kSimtForwardPolicies)
    if (d_v <= policy.max_dim) return policy;
  return {};
}

}  // namespace qkv::kernels
