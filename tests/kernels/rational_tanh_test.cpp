// The error of tanh as a fraction (kernels/attention/simt_additive/rational.h): its figures, and
// what the contract promises, by the kernel's own operations with ex2 and reciprocal as wrong as
// they may be.
#include "kernels/attention/simt_additive/rational.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>

namespace qkv::test {
namespace {

using namespace kernels;

constexpr double kU = 0x1p-24;

// x, `ulps` away.
float moved(float x, int ulps) { return std::bit_cast<float>(std::bit_cast<int32_t>(x) + ulps); }

float feature(float x, int ulps) { return moved(std::exp2(x * kRationalExponent), ulps); }

// w . tanh of two dims as the kernel sums it up, but for w_0 + w_1.
float fractions(float w0, float d0, float w1, float d1, int ulps) {
  const float numerator = std::fma(w1, d0, w0 * d1);
  return numerator * moved(1 / (d0 * d1), ulps);
}

TEST(RationalTanh, NeverLeavesTheRangeOfFloat) {
  const float largest = feature(kRationalRange, 2);
  const float d = std::fma(largest, largest, 1.0f);
  EXPECT_LT(d * d, 0x1p126f) << "the reciprocal is not flushed to zero";
  const float w = 2 * kRationalMostWeight;
  EXPECT_LT(std::fma(w, d, w * d), INFINITY);
  const float smallest = feature(-kRationalRange, -2);
  EXPECT_GT(smallest * smallest, 0x1p-126f);
}

TEST(RationalTanh, TheConstantsErrorIsAQuarterOfARounding) {
  const double want = 2 / std::log(2.0);
  EXPECT_LT(std::abs(kRationalExponent - want), 0.25 * kU * want);
}

// What the comment of rational.h adds up, over all |q| + |k| and all sums of that size.
TEST(RationalTanh, RoundingsAddUpToLessThanThePromise) {
  double worst = 0;
  for (int at = 1; at <= 2200; ++at) {
    const double size = at / 100.0;
    for (int part = -200; part <= 200; ++part) {
      const double e = std::exp(2 * size * part / 200), d = 1 + e;
      const double error = (8 + 2.5 * size) * 2 * e / (d * d) + 6 * 2 / d;
      worst = std::max(worst, error / std::max(1.0, size));
    }
  }
  EXPECT_LT(worst, 13.1);
  EXPECT_GT(worst, 12.5);
}

// One of two dims has a weight of 1, or both have: errors over what |q| + |k| allow.
double worst_error(bool as_wrong_as_may_be, bool both) {
  std::mt19937_64 random(7);
  const auto uniform = [&](double most) {
    return std::uniform_real_distribution<double>(-most, most)(random);
  };
  const auto ulps = [&](int most) {
    return as_wrong_as_may_be ? (random() % 2 == 0 ? most : -most) : 0;
  };
  const auto size = [&] {
    return uniform(std::exp2(std::uniform_real_distribution<double>(-4, 3.44)(random)));
  };
  double worst = 0;
  for (int n = 0; n < 1'000'000; ++n) {
    float d[2];
    double want = 0, allowed = 0;
    for (int dim = 0; dim < 2; ++dim) {
      const auto q = static_cast<float>(size());
      // Every other k is near -q.
      const auto k = static_cast<float>(
          n % 2 == 0 ? size()
                     : std::clamp<double>(uniform(2) - q, -kRationalRange, kRationalRange));
      d[dim] = std::fma(feature(q, ulps(2)), feature(k, ulps(2)), 1.0f);
      if (dim == 1 && !both) continue;
      want += std::tanh(static_cast<double>(q) + k);
      allowed += std::max(1.0, static_cast<double>(std::abs(q)) + std::abs(k));
    }
    const double got = (both ? 2.0 : 1.0) + fractions(-2, d[0], both ? -2.0f : 0.0f, d[1], ulps(1));
    worst = std::max(worst, std::abs(got - want) / allowed);
  }
  return worst;
}

TEST(RationalTanh, ErrsByAPartOfOne) {
  for (const bool both : {false, true}) {
    const double worst = worst_error(true, both);
    EXPECT_LT(worst, 0x1p-20) << both;
    EXPECT_GT(worst, 0x1p-22) << both << ": the promise is not far from what may happen";
    EXPECT_LT(worst_error(false, both), 0x1p-21) << both;
  }
}

}  // namespace
}  // namespace qkv::test
