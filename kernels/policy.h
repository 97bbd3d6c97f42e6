// Tile policies as constexpr values, shared by the host's plan and the kernels. A policy changes
// speed, never results beyond rounding. Every tuned row cites its evidence.
#pragma once

#include <cstdint>

namespace qkv::kernels {

inline constexpr int32_t kSimtForwardMaxDim = 576;

// simt_forward: `threads` = 16 lanes of columns x (threads / 16) groups of rows.
struct SimtForwardPolicy {
  int32_t max_dim;  // serves d_qk and d_v up to this
  int32_t tile_q;   // query rows of a block
  int32_t tile_kv;  // keys of a step
  int32_t threads;  // of a block
};

}  // namespace qkv::kernels
