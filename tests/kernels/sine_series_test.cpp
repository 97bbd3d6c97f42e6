// The error of tanh as a sum of sines (kernels/attention/sm80_additive/series.h): its figures, and
// what the contract allows, by the features as the kernel makes them.
#include "kernels/attention/sm80_additive/series.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "host/verify/elements.h"

namespace qkv::test {
namespace {

using namespace kernels;

constexpr double kPi = std::numbers::pi;
constexpr double kRange = 2.0 * kSeriesRange, kHalfPeriod = kSeriesHalfPeriod;

double amplitude(int n) {
  return kPi / kHalfPeriod / std::sinh((2 * n + 1) * kPi * kPi / (4 * kHalfPeriod));
}

TEST(SineSeries, HasTheClosedFormsCoefficients) {
  EXPECT_FLOAT_EQ(kSeriesFrequency, static_cast<float>(kPi / (2 * kHalfPeriod)));
  for (int n = 0; n < kSeriesHarmonics; ++n)
    EXPECT_NEAR(series_amplitude(n), amplitude(n), 0x1p-23 * amplitude(n)) << n;
}

struct Errors {
  double most = 0, squares = 0;
  int count = 0;
  void add(double error) {
    most = std::max(most, std::abs(error)), squares += error * error, ++count;
  }
  double rms() const { return std::sqrt(squares / count); }
};

TEST(SineSeries, ErrsByTailAndTruncation) {
  double sum = 0, rest = 0;
  for (int n = 0; n < 200; ++n) (n < kSeriesHarmonics ? sum : rest) += amplitude(n);
  const double tail = 2 * std::exp(-2 * (2 * kHalfPeriod - kRange));
  EXPECT_NEAR(tail, 1.25e-3, 5e-6);
  EXPECT_NEAR(rest, 6.4e-4, 5e-6);
  EXPECT_NEAR(2 * 0x1p-11 * sum, 1.68e-3, 5e-6);
  EXPECT_LT(tail + rest + 2 * 0x1p-11 * sum, 0x1p-8);
  Errors errors;
  for (int at = 0; at <= 10000; ++at) {
    const double x = kRange * at / 10000;
    double s = 0;
    for (int n = 0; n < kSeriesHarmonics; ++n)
      s += amplitude(n) * std::sin((2 * n + 1) * kPi / (2 * kHalfPeriod) * x);
    errors.add(s - std::tanh(x));
  }
  EXPECT_LT(errors.most, tail + rest);
  EXPECT_NEAR(errors.rms(), 4.0e-4, 5e-6);
}

// Sine and cosine of all harmonics by the kernel's recurrence in fp32, times a factor.
using Features = std::array<std::array<double, 2>, kSeriesHarmonics>;
Features features(float x, float factor) {
  const float angle = x * kSeriesFrequency;
  float s = std::sin(angle), c = std::cos(angle);
  const float step = std::fma(-4 * s, s, 2.0f);
  s *= factor, c *= factor;
  float s_before = -s, c_before = c;
  Features out;
  for (auto& [sine, cosine] : out) {
    sine = s, cosine = c;
    const float s_next = std::fma(step, s, -s_before), c_next = std::fma(step, c, -c_before);
    s_before = s, c_before = c, s = s_next, c = c_next;
  }
  return out;
}

double f16(double x) { return verify::round_to(QKV_TYPE_F16, x); }

TEST(SineSeries, KeepsTheContractWithRoundedFeatures) {
  Errors errors;
  for (int at_q = -150; at_q <= 150; ++at_q) {
    const float q = kSeriesRange * static_cast<float>(at_q) / 150;
    const float w = 0x1p13f * (1 + static_cast<float>(at_q + 150) / 301);
    const Features of_q = features(q, w);
    for (int at_k = -150; at_k <= 150; ++at_k) {
      const float k = kSeriesRange * static_cast<float>(at_k) / 150;
      const Features of_k = features(k, 1);
      double s = 0;
      for (int n = 0; n < kSeriesHarmonics; ++n) {
        const auto [sin_q, cos_q] = of_q[static_cast<size_t>(n)];
        const auto [sin_k, cos_k] = of_k[static_cast<size_t>(n)];
        const double a = series_amplitude(n);
        s += f16(sin_q) * f16(a * cos_k) + f16(cos_q) * f16(a * sin_k);
      }
      errors.add(s / w - std::tanh(double{q} + double{k}));
    }
  }
  EXPECT_LT(errors.most, 0x1p-8);
  EXPECT_LT(errors.rms(), 0x1p-11);
}

}  // namespace
}  // namespace qkv::test
