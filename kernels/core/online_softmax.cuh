// The state of a softmax over scores that arrive piece by piece. Shared by the kernels, by what
// merges their parts and by the unit tests.
//
// Scores come as they are summed up; `factor` turns them into exponents of 2: log2(e), times the
// scale where the scores lack it. All of a state's calls take the same factor > 0.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"
#include "kernels/host_device.h"
#include "kernels/ptx/ex2.h"

namespace qkv::kernels {

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

// Weights are carried up by 2^carry, so that their smallest survive the rounding to the element
// type: fp16 keeps all its bits down to 2^-14, so down to 2^-29 of the best key's weight, 2^15.
constexpr int softmax_carry(Type type) { return type == Type::kF16 ? 15 : 0; }

// Where |factor m| is less, the rounding of OnlineSoftmax::shift changes the row's weights by 2^-13
// at most, a quarter of fp16's ulp. Beyond it the best key's own weight comes to differ from
// 2^carry, with its rounding to the element type; from 2^24 on it may be 2^k, or 0.
inline constexpr float kCoarseExponent = 4096;

// Invariant after any number of scores: m = max s, l = sum 2^(factor (s - m) + kCarry); m = -inf
// and l = 0 while there is none above -inf. A NaN score leaves m and makes l NaN for good; so does
// a score of +inf.
template <int kCarry = 0>
struct OnlineSoftmax {
  float m = -INFINITY;
  float l = 0;

  // Raises m to s_max, the maximum of the scores to come, if that is larger. l is rescaled here;
  // the caller multiplies what else was summed up so far (O) by the result.
  QKV_HOST_DEVICE float raise(float s_max, float factor) {
    const float m_old = m;
    m = fmaxf(m, s_max);
    const float rescale = ptx::ex2_approx_ftz(factor * (m_old - base()));
    l *= rescale;
    return rescale;
  }

  // The weight of a score s <= m; exactly 2^kCarry at s == m, however large |m| is.
  QKV_HOST_DEVICE float weight(float s, float factor) const {
    return ptx::ex2_approx_ftz(fmaf(factor, s - base(), kCarry));
  }

  // 2^(factor s + shift) is the same in one instruction less, but for the rounding of `shift`: a
  // factor that all weights of the row have, and l. See kCoarseExponent.
  QKV_HOST_DEVICE float shift(float factor) const { return fmaf(-factor, base(), kCarry); }

  // Either of the two, by the row's own m: what stands beside a row must not change its bits.
  QKV_HOST_DEVICE float careful_weight(float s, float factor) const {
    const bool coarse = fabsf(base()) * factor >= kCoarseExponent;
    return ptx::ex2_approx_ftz(
        fmaf(s - (coarse ? base() : 0.0f), factor, coarse ? kCarry : shift(factor)));
  }

  // m, but 0 where scores are -inf or NaN alone: avoids (-inf) - (-inf).
  QKV_HOST_DEVICE float base() const { return m == -INFINITY ? 0.0f : m; }

  // No score above -inf was seen, and no NaN.
  QKV_HOST_DEVICE bool empty() const { return l == 0; }

  // log(sum(exp(S))), where factor s = log2(e) S; -inf if empty.
  QKV_HOST_DEVICE float lse(float factor) const {
    return fmaf(m, factor * kLn2, (log2f(l) - kCarry) * kLn2);
  }

  // The same, not rounded to one number.
  QKV_HOST_DEVICE SplitLse split_lse(float factor) const {
    const float high = m * (factor * kLn2);
    if (empty()) return {-INFINITY, 0};
    return {high, fmaf(m, factor * kLn2, -high) + (log2f(l) - kCarry) * kLn2};
  }
};

// The state after the scores of both, in this order or the other.
template <int kCarry>
QKV_HOST_DEVICE inline OnlineSoftmax<kCarry> merge(const OnlineSoftmax<kCarry>& a,
                                                   const OnlineSoftmax<kCarry>& b, float factor) {
  OnlineSoftmax<kCarry> ab{fmaxf(a.m, b.m), 0};
  ab.l = a.l * ptx::ex2_approx_ftz(factor * (a.m - ab.base())) +
         b.l * ptx::ex2_approx_ftz(factor * (b.m - ab.base()));
  return ab;
}

}  // namespace qkv::kernels
