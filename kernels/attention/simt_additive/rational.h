// tanh as a fraction of products, of which two are added up with one reciprocal:
//
//   tanh x = 1 - 2 / (1 + e^(2 x)),   e^(2 (q + k)) = e^(2 q) e^(2 k)
//   w_0 tanh x_0 + w_1 tanh x_1 = w_0 + w_1 - 2 (w_0 d_1 + w_1 d_0) / (d_0 d_1),   d = 1 + e^(2 x)
//
// so that exponentials are taken once for an element of q and of k, and a pair of both costs three
// multiply-adds and half a reciprocal: one for d, one and a half for the numerator and the product
// of two, half for the sum.
//
// Range: |q|, |k| <= R = 10.875 make d <= 1 + e^(4 R) < 2^62.8, and d_0 d_1 < 2^126, whose
// reciprocal is a normal number; |w| <= 2^60 makes the numerator < 2^126. No pair of these is cut
// off or clamped. Beyond, tanh itself is computed.
//
// Error of tanh, in units of u = 2^-24, first order, every rounding at its worst:
//
//   e^(2 q)     ex2 2 ulp, 4 u; its argument 2 log2(e) q has the roundings of a product and of the
//               constant, 1.25 u of 2 |q| together
//   e^(2 x)     both: 8 u + 2.5 (|q| + |k|) u, of which tanh gets 2 e^(2 x) / d^2 <= 1/2
//   2 / d       the roundings of d (1), of the numerator (2) and of the product (1), the reciprocal
//               (1 ulp, 2 u): 6 u, of which tanh gets 2 / d < 2
//
// together at most 13 u max(1, |q| + |k|): qkv.h promises 2^-20 max(1, |q| + |k|), which is 16 u.
// rational_tanh_test holds both; where ex2 and the reciprocal are rounded as well as can be, it
// finds 2^-21.6. Sums are those of fp32: sum w - 2 sum w / d has partial sums of up to sum |w|.
#pragma once

namespace qkv::kernels {

inline constexpr float kRationalRange = 10.875f;                 // R
inline constexpr float kRationalMostWeight = 0x1p60f;            // of |w|
inline constexpr float kRationalExponent = 2.8853900817779268f;  // 2 log2(e)

}  // namespace qkv::kernels
