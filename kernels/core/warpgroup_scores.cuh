// Softcap, mask and softmax of scores as a warpgroup's wgmma leaves them in registers. Of its
// warp's 16 query rows a lane has rows lane / 4 and + 8 ("halves" 0 and 1), and of every 8 keys 2
// (lane % 4) and + 1: element n / 2 + 2 half + x of rS is key n + 2 (lane % 4) + x, n = 0, 8, ...
#pragma once

#include <cstdint>

#include "kernels/core/mask.h"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/core/softcap.h"
#include "kernels/ptx/ex2.h"
#include "kernels/ptx/min_nan.h"
#include "kernels/ptx/rcp.h"

namespace qkv::kernels {

// rS = s(2 S / c), where s(x) = 1 / (1 + e^-x) and c is the softcap: S softcapped is
// c tanh(S / c) = c (2 rS - 1). `inverse` is the scale over c.
//
// A tanh of its own would take two of the special function units' turns a score, as many as all
// the rest of its softmax twice over. Here four scores of a row share one reciprocal: of
// a b c d, where each is 1 + e^-x; and softmax takes rS as it is, with 2 c log2(e) for its factor.
//
// Error of a score, in units of 2^-24 c: twice what rS errs by, which is 6 for the reciprocal and
// four products, 1 for 1 + e^-x, 1 for e^-x (2 ulp, of which at most a quarter arrives) and 0.8 for
// its argument's and factor's roundings (x s(x) s(-x) < 0.225); and 2 for the rounding of the
// softmax's shift and of m. Together 20: less than 2^-19 c.
//
// e^-x is cut off at 2^30, so that a b c d stays finite: rS is at least 2^-30 then. A NaN makes the
// four of them NaN, which are of one row; hidden keys have to be masked before as well.
template <int kScores>
__device__ inline void softcap_scores(float (&rS)[kScores], float inverse) {
  const float factor = -2 * kLog2E * inverse;
  const auto one_and_power = [&](float s) {
    return 1 + ptx::min_nan(ptx::ex2_approx_ftz(s * factor), 0x1p30f);
  };
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int n = half * 2; n < kScores; n += 8) {
      const float a = one_and_power(rS[n]), b = one_and_power(rS[n + 1]);
      const float c = one_and_power(rS[n + 4]), d = one_and_power(rS[n + 5]);
      const float ab = a * b, cd = c * d;
      const float reciprocal = ptx::rcp_approx_ftz(ab * cd);
      const float of_ab = reciprocal * cd, of_cd = reciprocal * ab;
      rS[n] = of_ab * b;
      rS[n + 1] = of_ab * a;
      rS[n + 4] = of_cd * d;
      rS[n + 5] = of_cd * c;
    }
}

// c (2 s - 1), the score of which softcap_scores() has made s.
__device__ inline float softcapped_score(float s, float softcap) {
  return fmaf(2 * s, softcap, -softcap);
}

// rS = -inf where a row does not see the key, for the first kKeys keys; `key` is the lane's first.
template <int kKeys, int kScores>
__device__ inline void mask_scores(float (&rS)[kScores], const KeyRange (&visible)[2], int key) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int begin = visible[half].begin - key, end = visible[half].end - key;
#pragma unroll
    for (int n = 0; n < kKeys; n += 8)
#pragma unroll
      for (int x = 0; x < 2; ++x)
        if (n + x < begin || n + x >= end) rS[n / 2 + half * 2 + x] = -INFINITY;
  }
}

struct RaisedMax {
  bool rises;   // whether anything was rescaled
  bool coarse;  // whether the shift of a row of the warp is too coarse
};

// m over the scores of the first kKeys keys as well; `rescale` is for the sums of O so far. With
// kIfRises nothing happens, and `rescale` is left as it is, where no row of the warp rises: less to
// do, but a branch amid the registers of products under way.
template <int kKeys, bool kIfRises, int kScores, class Softmax>
__device__ inline RaisedMax raise_max(const float (&rS)[kScores], Softmax (&softmax)[2],
                                      float (&rescale)[2], float factor) {
  float s_max[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float two[2] = {rS[half * 2], rS[half * 2 + 1]};  // two chains, half as long
#pragma unroll
    for (int n = 4; n < kKeys / 2; n += 4)
#pragma unroll
      for (int x = 0; x < 2; ++x) two[x] = fmaxf(two[x], rS[n + half * 2 + x]);
    s_max[half] = quad_max(fmaxf(two[0], two[1]));
  }
  const bool rises =
      !kIfRises || __any_sync(0xffffffffu, s_max[0] > softmax[0].m || s_max[1] > softmax[1].m);
  if (rises)
#pragma unroll
    for (int half = 0; half < 2; ++half) rescale[half] = softmax[half].raise(s_max[half], factor);
  const float largest = fmaxf(fabsf(softmax[0].base()), fabsf(softmax[1].base()));
  return {rises, __any_sync(0xffffffffu, largest * factor >= kCoarseExponent) != 0};
}

// rS = P for keys kFrom to kTo - 1, added to l.
template <int kFrom, int kTo, bool kCoarse, int kScores, class Softmax>
__device__ inline void weigh_scores(float (&rS)[kScores], Softmax (&softmax)[2], float factor) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float shift = softmax[half].shift(factor);
#pragma unroll
    for (int n = kFrom / 2; n < kTo / 2; n += 4)
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        float& s = rS[n + half * 2 + x];
        s = kCoarse ? softmax[half].careful_weight(s, factor)
                    : ptx::ex2_approx_ftz(fmaf(s, factor, shift));
        softmax[half].l += s;
      }
  }
}

}  // namespace qkv::kernels
