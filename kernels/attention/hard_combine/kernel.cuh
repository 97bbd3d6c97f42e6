// hard_combine: the results of hard attention for every row from the best keys of its splits
// [splits, batch, heads_q, s_q].
//
// A warp computes one row: its lanes look through every 32nd split, then they copy the row of V.
//
// Contract (qkv.h has the rest): the best key is that of all splits together, whatever their
// number; a row without a score above -inf gives O = +0, LSE = -inf and index -1.
#pragma once

#include <cstdint>

#include "kernels/attention/hard_combine/policy.h"
#include "kernels/core/best_key.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/selected_row.cuh"

namespace qkv::kernels {

static __global__ void __launch_bounds__(kHardCombineThreads)
    hard_combine(const __grid_constant__ ForwardArgs args, int32_t element_bytes, float factor,
                 int32_t splits, const BestKey* of_splits) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = int64_t{blockIdx.x} * (kHardCombineThreads / 32) + threadIdx.x / 32;
  const int64_t rows = int64_t{args.batch} * args.heads_q * args.s_q;
  if (row >= rows) return;  // whole warps
  BestKey best{-INFINITY, kNoKey};
  for (int n = lane; n < splits; n += 32) best = better_of(best, of_splits[n * rows + row]);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const float score = __shfl_xor_sync(0xffffffffu, best.score, distance);
    const int32_t key = __shfl_xor_sync(0xffffffffu, best.key, distance);
    best = better_of(best, {score, key});
  }
  const int i = static_cast<int>(row % args.s_q);
  const int head = static_cast<int>(row / args.s_q % args.heads_q);
  const int batch = static_cast<int>(row / args.s_q / args.heads_q);
  const int head_kv = head / (args.heads_q / args.heads_kv);
  write_selected(args, element_bytes, best, factor, {batch, head, head_kv, i}, lane, 32);
}

}  // namespace qkv::kernels
