// The best key of each row of scores as they lie in registers (core/score_fragment.cuh draws them),
// block of keys by block of keys, for hard selection.
//
// A row's best score is the same in the four lanes that share it; each of them knows the key if it
// is one of its own. A block of keys without a score above it costs a maximum of a lane's scores
// and a vote; only where the vote finds one are keys searched for.
#pragma once

#include <cstdint>

#include "kernels/core/best_key.h"
#include "kernels/ptx/max_nan.h"

namespace qkv::kernels {

// The best of a lane's scores of one row; NaN if one of them is.
template <int kN>
__device__ inline float best_score(const float (&rS)[kN][4], int half) {
  float s = ptx::max_nan(rS[0][half * 2], rS[0][half * 2 + 1]);
#pragma unroll
  for (int n = 1; n < kN; ++n)
    s = ptx::max_nan(s, ptx::max_nan(rS[n][half * 2], rS[n][half * 2 + 1]));
  return s;
}

// The lane's first key of score `s`, kNoKey if none is. If s is NaN: its first with NaN; if not,
// none of the row's is. `key` is the lane's first.
template <int kN>
__device__ inline int32_t key_of(float s, const float (&rS)[kN][4], int half, int key) {
  int32_t found = kNoKey;
#pragma unroll
  for (int n = kN - 1; n >= 0; --n)
#pragma unroll
    for (int x = 1; x >= 0; --x) {
      const float other = rS[n][half * 2 + x];
      if (other == s || other != other) found = key + n * 8 + x;
    }
  return found;
}

// One more block of keys, above all that were seen: of equal scores the one before stays. The whole
// warp runs this; `key` is the lane's first.
template <int kM, int kN>
__device__ inline void select_best(const float (&rS)[kM][kN][4], BestKey (&best)[kM][2], int key) {
  float s[kM][2];
  bool is_better = false;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      s[m][half] = best_score(rS[m], half);
      is_better = is_better || beats(s[m][half], best[m][half].score);
    }
  if (!__any_sync(0xffffffffu, is_better)) return;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      BestKey& row = best[m][half];
      if (!__any_sync(0xffffffffu, beats(s[m][half], row.score))) continue;
      float of_row = s[m][half];
      of_row = ptx::max_nan(of_row, __shfl_xor_sync(0xffffffffu, of_row, 1));
      of_row = ptx::max_nan(of_row, __shfl_xor_sync(0xffffffffu, of_row, 2));
      if (beats(of_row, row.score)) row = {of_row, key_of(of_row, rS[m], half, key)};
    }
}

// From a lane's own keys to the whole row, once all keys are seen.
template <int kM>
__device__ inline void reduce_lanes(BestKey (&best)[kM][2]) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int32_t& key = best[m][half].key;
      key = min(key, __shfl_xor_sync(0xffffffffu, key, 1));
      key = min(key, __shfl_xor_sync(0xffffffffu, key, 2));
    }
}

}  // namespace qkv::kernels
