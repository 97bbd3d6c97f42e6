// merge's sizes, for the host's plan and the kernel.
#pragma once

#include <cstdint>

#include "kernels/core/grid.h"

namespace qkv::kernels {

inline constexpr int32_t kMergeMaxParts = 32;  // a lane of a warp weighs one part
inline constexpr int32_t kMergeThreads = 128;

// Blocks of the grid, a warp for each row; kMaxBlocks + 1 if they do not fit.
constexpr int64_t merge_blocks(int64_t batch, int64_t heads, int64_t seq) {
  constexpr int64_t kRows = kMergeThreads / 32;
  int64_t rows = 0;
  if (__builtin_mul_overflow(batch, heads, &rows) || __builtin_mul_overflow(rows, seq, &rows))
    return kMaxBlocks + 1;
  const int64_t blocks = rows / kRows + (rows % kRows != 0 ? 1 : 0);
  return blocks > kMaxBlocks ? kMaxBlocks + 1 : blocks;
}

}  // namespace qkv::kernels
