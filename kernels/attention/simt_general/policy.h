// simt_general's tiles, the same for every problem. For the host's plan and the kernel. Untuned.
#pragma once

#include <cstdint>

#include "kernels/core/simt_smem.h"

namespace qkv::kernels {

inline constexpr int32_t kSimtGeneralTileQ = 32;
inline constexpr int32_t kSimtGeneralTileKv = 64;
inline constexpr int32_t kSimtGeneralThreads = 128;
inline constexpr int32_t kSimtGeneralMinBlocks = 2;  // on a multiprocessor, as far as registers go
inline constexpr int32_t kSimtGeneralWeightBytes = sizeof(float) * kSimtChunk;  // additive scores

// A block computes this many columns of O: a wider O takes several blocks, each of which computes
// all of the scores.
inline constexpr int32_t kSimtGeneralSlice = 128;

// Blocks for each tile of query rows. Hard selection copies rows of V, whatever their width.
constexpr int64_t simt_general_slices(bool hard, int64_t d_v) {
  const int64_t slices = (d_v + kSimtGeneralSlice - 1) / kSimtGeneralSlice;
  return hard || slices == 0 ? 1 : slices;
}

}  // namespace qkv::kernels
