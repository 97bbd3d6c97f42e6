// tanh as a short sum of sines, which makes a product of the additive score:
//
//   tanh x = sum_n a_n sin((2n + 1) w x),  w = pi / (2 L),   |x| <= R < 2 L
//   sin(f (q + k)) = sin f q cos f k + cos f q sin f k
//   sum_d w_d tanh(q_d + k_d) = sum_{d, n} (w_d sin f_n q_d) (a_n cos f_n k_d) + (.. cos) (.. sin)
//
// so that a query has 2 N features for each dim, a key as many, and a score is their product.
//
// All sines together, n = 0, 1, ..., are sum_m (-1)^m tanh(x - 2 L m), tanh continued with period
// 4 L, if a_n = (pi / L) / sinh((2n + 1) pi^2 / (4 L)). In |x| <= R the copies at +-2 L come in as
//
//   tail        1 - tanh(2 L - R) <= 2 e^(-2 (2 L - R))                           1.25e-3
//   truncation  sum_{n >= N} a_n                                                  6.4e-4
//
// Features are rounded to fp16, u = 2^-11, sums are fp32: of a product of two features two
// roundings are left, and |sin cos| + |cos sin| <= 1, so
//
//   rounding    2 u sum_n a_n                                                     1.68e-3
//
// together 3.6e-3 < 2^-8, the contract's bound. The root of the mean square over |x| <= R: of tail
// and truncation 4.0e-4; of rounding 0.42 u (sum a_n^2)^(1/2) = 2.6e-4, if logarithms of features
// are spread evenly: together 4.8e-4 < 2^-11. sine_series_test holds these figures.
//
// The frequencies of a dim follow from one sine and one cosine: s_(n+1) = 2 cos(2 w x) s_n -
// s_(n-1), in fp32, whose error grows as n^2 2^-21 while a_n falls by half and more.
//
// Where a query or a key leaves |x| <= R / 2, as 1 in 1300 of N(0, 1) do, the kernel computes tanh
// itself, by tanh.approx, within 2^-11.
#pragma once

#include <cstdint>

namespace qkv::kernels {

inline constexpr int32_t kSeriesHarmonics = 8;          // N
inline constexpr float kSeriesRange = 3.375f;           // R / 2, of q and of k
inline constexpr float kSeriesHalfPeriod = 5.21875f;    // L
inline constexpr float kSeriesFrequency = 0.30099091f;  // w

// a_n, 0 <= n < kSeriesHarmonics.
constexpr float series_amplitude(int32_t n) {
  constexpr float kAmplitudes[kSeriesHarmonics] = {
      1.227012414e+00f, 3.096339421e-01f, 1.142376840e-01f, 4.404192266e-02f,
      1.708869361e-02f, 6.636967774e-03f, 2.578063551e-03f, 1.001444864e-03f};
  return kAmplitudes[n];
}

// The weights w_d of a head are multiplied by 2^e, so that the largest is in [2^13, 2^14): features
// of weights down to 2^-19 of it are normal numbers of fp16.
inline constexpr int32_t kSeriesWeightExponent = 13;

}  // namespace qkv::kernels
