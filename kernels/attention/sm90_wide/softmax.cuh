// sm90_wide's softmax of one block of keys, in the registers of warpgroup 0.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_wide/policy.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/score_fragment.cuh"

namespace qkv::kernels {

template <Type kType>
struct Sm90WideSoftmax {
  using State = OnlineSoftmax<softmax_carry(kType)>;

  // S as wgmma's accumulators: of its warp's 16 rows a lane has rows lane / 4 and + 8 ("halves" 0
  // and 1), and of every 8 keys 2 (lane % 4) and + 1: element n / 2 + 2 half + x is key
  // n + 2 (lane % 4) + x, n = 0, 8, ...
  static constexpr int kScores = kSm90WideTileKv / 2;
  using Scores = float[kScores];

  // rS = tanh(rS scale / softcap); the exponential's factor is then softcap log2(e).
  static __device__ void apply_softcap(Scores& rS, float inverse) {
#pragma unroll
    for (float& s : rS) s = tanhf(s * inverse);
  }

  // rS = -inf where a row does not see the key; `key` is the lane's first.
  static __device__ void apply_mask(Scores& rS, const KeyRange (&visible)[2], int key) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int begin = visible[half].begin - key, end = visible[half].end - key;
#pragma unroll
      for (int n = 0; n < kSm90WideTileKv; n += 8)
#pragma unroll
        for (int x = 0; x < 2; ++x)
          if (n + x < begin || n + x >= end) rS[n / 2 + half * 2 + x] = -INFINITY;
    }
  }

  // m over the scores of the block as well; `rescale` is for the sums of O so far. Returns whether
  // a row's shift is too coarse.
  static __device__ bool raise_max(const Scores& rS, State (&state)[2], float (&rescale)[2],
                                   float factor) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float s_max[2] = {rS[half * 2], rS[half * 2 + 1]};  // two chains, half as long
#pragma unroll
      for (int n = 4; n < kScores; n += 4)
#pragma unroll
        for (int x = 0; x < 2; ++x) s_max[x] = fmaxf(s_max[x], rS[n + half * 2 + x]);
      rescale[half] = state[half].raise(quad_max(fmaxf(s_max[0], s_max[1])), factor);
    }
    const float largest = fmaxf(fabsf(state[0].base()), fabsf(state[1].base()));
    return __any_sync(0xffffffffu, largest * factor >= kCoarseExponent);
  }

  // rS = P, added to l.
  template <bool kCoarse>
  static __device__ void exponentials(Scores& rS, State (&state)[2], float factor) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float shift = state[half].shift(factor);
#pragma unroll
      for (int n = 0; n < kScores; n += 4)
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          float& s = rS[n + half * 2 + x];
          s = kCoarse ? state[half].careful_weight(s, factor)
                      : ptx::ex2_approx_ftz(fmaf(s, factor, shift));
          state[half].l += s;
        }
    }
  }
};

}  // namespace qkv::kernels
