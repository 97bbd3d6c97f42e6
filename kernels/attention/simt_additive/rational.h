// tanh as a fraction of products, of which two are added up with one reciprocal. With
// e^(2 (q + k)) = e^(2 q) e^(2 k) exponentials are taken once for an element of q and of k; of
// x = q + k, E = e^(2 x), d = 1 + E, t = tanh x, u = 2^-24 there are two forms:
//
//   coarse, 16-bit types   w tanh x = w - 2 w / d          three multiply-adds for a pair
//   fine, fp32             w tanh x = (w E - w) / d        four
//
//   n_0 / d_0 + n_1 / d_1 = (n_0 d_1 + n_1 d_0) / (d_0 d_1)
//
// A multiply-add for d, one and a half for the sum of two numerators and the product of two
// denominators, half for what is added to the score; the fine form has one more, n = e^(2 q) (w
// e^(2 k)) - w, with w e^(2 k) once for a thread's rows. Each pair takes half a reciprocal.
//
// Range: |q|, |k| <= R = 10.875 make d <= 1 + e^(4 R) < 2^62.8, and d_0 d_1 < 2^126, whose
// reciprocal is a normal number. Coarse, |w| <= 2^60 makes the sum of numerators < 2^126. Fine,
// |n| <= |w| d, and a head's weights are taken in units of a power of two above all of them: the
// sum is < 2^127, and what is lost below 2^-126 is nothing beside the largest weight. No pair of
// these is cut off or clamped. Beyond, tanh itself is computed.
//
// Error of tanh, in units of u, first order, every rounding at its worst. Coarse:
//
//   e^(2 q)     ex2 2 ulp, 4 u; its argument 2 log2(e) q has the roundings of a product and of the
//               constant, 1.25 u of 2 |q| together
//   E           both: 8 u + 2.5 (|q| + |k|) u, of which tanh gets 2 E / d^2 <= 1/2
//   2 / d       the roundings of d (1), of the numerator (2) and of the product (1), the reciprocal
//               (1 ulp, 2 u): 6 u, of which tanh gets 2 / d < 2
//
// together at most 13 u max(1, |q| + |k|): qkv.h promises 2^-20 max(1, |q| + |k|), which is 16 u.
// Its error is one of 2 where tanh is near -1, and sums pass through sum w. Fine:
//
//   e^(2 q)     1.3 u, all floats tried (exp_of_double)
//   E           both: 2.6 u, of which tanh gets 2 E / d^2 = (1 - t^2) / 2
//   w e^(2 k)   1 u of w E, of which tanh gets E / d = (1 + t) / 2
//   n / d       the roundings of n and d (1 each), of the sum of numerators (2) and of the product
//               (1), the reciprocal (2): 7 u of |t|
//
// 7 |t| + (1 + t) / 2 + 1.3 (1 - t^2) rises with t: it is 6.8 at x = 1, and below 8 wherever |q| +
// |k| >= |x| > 1: at most 6.8 u max(1, |q| + |k|), where qkv.h promises 2^-21 max(1, |q| + |k|),
// which is 8 u. rational_tanh_test holds all of this.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"

namespace qkv::kernels {

inline constexpr float kRationalRange = 10.875f;                 // R
inline constexpr float kRationalMostWeight = 0x1p60f;            // of |w|
inline constexpr float kRationalExponent = 2.8853900817779268f;  // 2 log2(e)

// e^(2 x), |x| <= R, within 1.3 * 2^-24 of it, NaN of NaN: 2^n e^(2 r), r = x - n ln(2) / 2, |r| <=
// ln(2) / 4 + 2^-19. n times the first part of ln(2) / 2 is exact, and so is what it leaves of x; r
// is rounded once, 1/8 u of the result. The polynomial's relative error is 0.07 u (minimax, its
// second coefficient held at 2). Then the roundings of the sum, at most u, and of the factor of r
// before it, 2 u of r: 1.3 u with the division by e^(2 r).
QKV_HOST_DEVICE inline float exp_of_double(float x) {
  constexpr float kShift = 0x1.8p23f + 127;  // makes n + 127 the lowest bits
  const float shifted = fmaf(x, kRationalExponent, kShift), n = shifted - kShift;
  const float r = fmaf(n, -0x1.7f7d1cp-21f, fmaf(n, -0x1.62e4p-2f, x));
  float p = 0x1.6a248ap-4f;
  p = fmaf(p, r, 0x1.1239bp-2f);
  p = fmaf(p, r, 0x1.5558fp-1f);
  p = fmaf(p, r, 0x1.555492p+0f);
  p = fmaf(p, r, 0x1.fffffcp+0f);
  p = fmaf(p, r, 2);
  p = fmaf(p, r, 1);
  return p * std::bit_cast<float>(std::bit_cast<uint32_t>(shifted) << 23);
}

// The power of two above |w| <= kRationalMostWeight, no subnormal number, and its inverse, which is
// none either.
QKV_HOST_DEVICE inline float weight_unit(float w) {
  return std::bit_cast<float>((std::bit_cast<uint32_t>(w) & 0x7f800000u) + 0x00800000u);
}
QKV_HOST_DEVICE inline float inverse_of_unit(float unit) {
  return std::bit_cast<float>(0x7f000000u - std::bit_cast<uint32_t>(unit));
}

}  // namespace qkv::kernels
