// top_k_combine: the results of top-k selection for every row from the lists of its splits
// [splits, batch, heads_q, s_q, k], each one in order, 0 behind its last key.
//
// A warp computes one row. It takes 32 keys at a time: where k is smaller those of several lists,
// else the first 32 of each list, then the next 32 of each, until none of these counts.
//
// Contract (qkv.h has the rest): the best k keys are those of all splits together, whatever their
// number, and so are all bits of the results.
#pragma once

#include <cstdint>

#include "kernels/attention/top_k_combine/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/top_k_args.h"
#include "kernels/core/top_list.cuh"
#include "kernels/core/top_row.cuh"

namespace qkv::kernels {

// Adds to the list what counts of 32 keys, one of each lane. Returns whether any does.
static __device__ inline bool add_to(const TopList& list, RankedKey key, int lane) {
  const unsigned counts = __ballot_sync(0xffffffffu, key > list.keys[list.k - 1]);
  if (counts == 0) return false;
  const unsigned before = counts & ((1u << lane) - 1);
  if ((counts >> lane & 1) != 0) list.pending()[__popc(before)] = key;
  list.merge(__popc(counts), lane);
  return true;
}

template <Type kType>
static __global__ void __launch_bounds__(kTopKCombineThreads)
    top_k_combine(const __grid_constant__ ForwardArgs args, const __grid_constant__ TopKArgs top,
                  int32_t splits, const RankedKey* of_splits) {
  constexpr int kWarps = kTopKCombineThreads / 32;
  constexpr int kAhead = 4;  // loads that are on their way together
  __shared__ RankedKey lists[kWarps][top_list_places(kMaxTopK)];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp;
  const int64_t rows = int64_t{args.batch} * args.heads_q * args.s_q;
  if (row >= rows) return;  // whole warps
  const int k = top.k;
  const TopList list{lists[warp], k};
  for (int n = lane; n < k; n += 32) list.keys[n] = 0;
  __syncwarp();

  const int width = min(k, 32), together = 32 / width;  // keys of a list, lists at a time
  const int of_list = lane % width, beside = lane / width;
  for (int first = 0; first < k; first += 32) {
    bool any = false;
#pragma unroll 1
    for (int split = 0; split < splits; split += kAhead * together) {
      RankedKey key[kAhead];
#pragma unroll
      for (int n = 0; n < kAhead; ++n) {
        const int from = split + n * together + beside;
        const bool there = beside < together && from < splits && first + of_list < k;
        key[n] = there ? of_splits[(from * rows + row) * k + first + of_list] : 0;
      }
#pragma unroll
      for (int n = 0; n < kAhead; ++n)
        if (add_to(list, key[n], lane)) any = true;
    }
    if (!any) break;
  }

  const int i = static_cast<int>(row % args.s_q);
  const int head = static_cast<int>(row / args.s_q % args.heads_q);
  const int batch = static_cast<int>(row / args.s_q / args.heads_q);
  const int head_kv = head / (args.heads_q / args.heads_kv);
  const TopRow<Element<kType>> result{args, top, {batch, head, head_kv, i}, lane, 32};
  result.write(list, true);
}

}  // namespace qkv::kernels
