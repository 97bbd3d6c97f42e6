// simt_general's tiles, the same for every problem. For the host's plan and the kernel. Untuned.
#pragma once

#include <cstdint>

#include "kernels/core/best_key.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/simt_smem.h"
#include "kernels/core/top_k_args.h"

namespace qkv::kernels {

inline constexpr int32_t kSimtGeneralTileQ = 32;
inline constexpr int32_t kSimtGeneralTileKv = 64;
inline constexpr int32_t kSimtGeneralThreads = 128;
inline constexpr int32_t kSimtGeneralMinBlocks = 2;  // on a multiprocessor, as far as registers go
inline constexpr int32_t kSimtGeneralWeightBytes = sizeof(float) * kSimtChunk;  // additive scores

// A block computes this many columns of O: a wider O takes several blocks, each of which computes
// all of the scores.
inline constexpr int32_t kSimtGeneralSlice = 128;

// Blocks for each tile of query rows. Hard and top-k selection read the chosen rows of V alone,
// whatever their width.
constexpr int64_t simt_general_slices(Selection selection, int64_t d_v) {
  const int64_t slices = (d_v + kSimtGeneralSlice - 1) / kSimtGeneralSlice;
  return selection != Selection::kSoft || slices == 0 ? 1 : slices;
}

// Shared memory beside the tiles: top-k selection's lists.
constexpr int32_t simt_general_list_bytes(Selection selection, int32_t top_k) {
  if (selection != Selection::kTopK) return 0;
  return kSimtGeneralTileQ * top_k * static_cast<int32_t>(sizeof(BestKey));
}

}  // namespace qkv::kernels
