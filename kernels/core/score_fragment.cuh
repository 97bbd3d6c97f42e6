// Mask and softmax of scores as mma.m16n8 leaves them in registers (ptx/mma.h). rS[n] is a fragment
// of 16 query rows and 8 keys, of which a lane holds
//
//   rS[n][0], rS[n][1]   row lane / 4,     keys 8 n + 2 (lane % 4) and + 1   (half 0)
//   rS[n][2], rS[n][3]   row lane / 4 + 8, the same keys                     (half 1)
//
// so that a row lies in the four lanes of a quad. The functions work on one half, all lanes
// together; `key` is the lane's first key.
#pragma once

#include "kernels/core/mask.h"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/score.cuh"

namespace qkv::kernels {

// Over the four lanes of a quad; all of them get the result.
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// S = -inf at keys that the row does not see.
template <int kN>
__device__ inline void apply_mask(float (&rS)[kN][4], int half, KeyRange visible, int key) {
#pragma unroll
  for (int n = 0; n < kN; ++n)
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      const int j = n * 8 + x;
      if (j < visible.begin - key || j >= visible.end - key) rS[n][half * 2 + x] = -INFINITY;
    }
}

// S = the scores that the softmax sees, from Q K^T: query i of head `member`, by all the rules.
template <int kN, class T>
__device__ inline void apply_rules(float (&rS)[kN][4], int half, const ScoreRules<T>& rules,
                                   const KeyRange& visible, float scale, int key, int i,
                                   int member) {
  const float slope = rules.slope(member);
#pragma unroll
  for (int n = 0; n < kN; ++n)
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      float& s = rS[n][half * 2 + x];
      const int j = key + n * 8 + x;
      s = rules.visible(visible, i, j, member)
              ? rules.biased(rules.softcapped(s * scale), slope, i, j, member)
              : -INFINITY;
    }
}

// m rises to the maximum of the row of S. Returns the factor by which the row of O is to be
// multiplied, since it was summed up relative to the old m.
template <int kN, int kCarry>
__device__ inline float raise_row(const float (&rS)[kN][4], int half,
                                  OnlineSoftmax<kCarry>& softmax, float factor) {
  float s_max = rS[0][half * 2];
#pragma unroll
  for (int n = 0; n < kN; ++n) s_max = fmaxf(s_max, fmaxf(rS[n][half * 2], rS[n][half * 2 + 1]));
  return softmax.raise(quad_max(s_max), factor);
}

// S becomes P = weight(S), which l adds up (for the lane's own keys: quad_sum makes it the row's).
template <int kN, int kCarry, class Weight>
__device__ inline void weigh_row(float (&rS)[kN][4], int half, OnlineSoftmax<kCarry>& softmax,
                                 Weight&& weight) {
#pragma unroll
  for (int n = 0; n < kN; ++n)
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      float& s = rS[n][half * 2 + x];
      s = weight(s);
      softmax.l += s;
    }
}

}  // namespace qkv::kernels
