// merge: parts of one attention problem over disjoint sets of keys into the whole.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/policy.h"

namespace qkv::kernels {

inline constexpr int32_t kMergeMaxParts = 32;  // lanes of a warp

struct MergeArgs {
  Tensor o_parts[kMergeMaxParts];    // [batch, heads, seq, dim]
  Tensor lse_parts[kMergeMaxParts];  // [batch, heads, seq] fp32
  Tensor o;                          // as o_parts, each with a type of its own
  Tensor lse;                        // data may be null
  Type part_type = Type::kF32, o_type = Type::kF32;
  int32_t parts = 0, batch = 0, heads = 0, seq = 0, dim = 0;
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Allocates and synchronises
// nothing. Returns the launch's cudaError_t, which it takes off the runtime's record; 1
// (cudaErrorInvalidValue) without launching for more rows than a grid has warps.
int launch_merge(const MergeArgs& args, void* stream);

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
