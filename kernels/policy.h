// Tile policies as constexpr values, shared by the host's plan and the kernels. A policy changes
// speed, never results beyond rounding. Every tuned row cites its evidence.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qkv::kernels {

inline constexpr int64_t kMaxBlocks = 0x7fffffff;  // of a grid's x axis

// simt_forward: `threads` = 16 lanes of columns x (threads / 16) groups of rows. Only d_v needs a
// bucket: O lives in registers. d_qk is walked in chunks.
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
inline constexpr int32_t kSimtForwardChunk = 64;    // dims of Q, K or V in shared memory at a time
inline constexpr int32_t kSimtForwardPitch = kSimtForwardChunk + 4;  // floats; row r on bank 4 r

// The policy that serves d_v, 0 <= d_v <= kSimtForwardMaxDim.
constexpr SimtForwardPolicy simt_forward_policy(int32_t d_v) {
  for (const SimtForwardPolicy& policy : kSimtForwardPolicies)
    if (d_v <= policy.max_dim) return policy;
  return {};
}

// Static shared memory of a block in bytes.
constexpr size_t simt_forward_smem_bytes(const SimtForwardPolicy& policy) {
  return sizeof(float) * kSimtForwardPitch * static_cast<size_t>(policy.tile_q + policy.tile_kv);
}

// Blocks of the grid; kMaxBlocks + 1 if they do not fit.
constexpr int64_t simt_forward_blocks(const SimtForwardPolicy& policy, int32_t batch,
                                      int32_t heads_q, int32_t s_q) {
  if (batch == 0 || heads_q == 0 || s_q == 0) return 0;
  const int64_t tiles = (int64_t{s_q} + policy.tile_q - 1) / policy.tile_q;
  const int64_t of_batch = tiles * heads_q;
  if (of_batch > kMaxBlocks || of_batch * batch > kMaxBlocks) return kMaxBlocks + 1;
  return of_batch * batch;
}

}  // namespace qkv::kernels
