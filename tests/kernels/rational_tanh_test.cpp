// The error of tanh as a fraction (kernels/attention/simt_additive/rational.h): its figures, and
// what the contract promises, by the kernel's own operations with ex2 and reciprocal as wrong as
// they may be.
#include "kernels/attention/simt_additive/rational.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>

namespace qkv::test {
namespace {

using namespace kernels;

constexpr double kU = 0x1p-24;

// x, `ulps` away.
float moved(float x, int ulps) { return std::bit_cast<float>(std::bit_cast<int32_t>(x) + ulps); }

float coarse_feature(float x, int ulps) { return moved(std::exp2(x * kRationalExponent), ulps); }

// What the kernel adds to a score for two dims.
float fractions(float n0, float d0, float n1, float d1, int ulps) {
  return std::fma(n1, d0, n0 * d1) * moved(1 / (d0 * d1), ulps);
}

TEST(RationalTanh, NeverLeavesTheRangeOfFloat) {
  const float largest = std::max(coarse_feature(kRationalRange, 2), exp_of_double(kRationalRange));
  const float d = std::fma(largest, largest, 1.0f);
  EXPECT_LT(d * d, 0x1p126f) << "the reciprocal is not flushed to zero";
  const float w = 2 * kRationalMostWeight;
  EXPECT_LT(std::fma(w, d, w * d), 0x1p126f);
  const float n = std::fma(largest, largest, -1.0f);
  EXPECT_LT(std::fma(n, d, n * d), 0x1p127f) << "of weights of 1";
  const float smallest =
      std::min(coarse_feature(-kRationalRange, -2), exp_of_double(-kRationalRange));
  EXPECT_GT(smallest * smallest, 0x1p-126f);
}

TEST(RationalTanh, TheConstantsErrorIsAQuarterOfARounding) {
  const double want = 2 / std::log(2.0);
  EXPECT_LT(std::abs(kRationalExponent - want), 0.25 * kU * want);
}

TEST(RationalTanh, WeightsAreTakenInAPowerOfTwoAboveThem) {
  for (const float w :
       {0.0f, 0x1p-149f, 0x1.8p-127f, 0x1p-126f, 0x1.fffffep-1f, 1.0f, 3.0f, kRationalMostWeight}) {
    SCOPED_TRACE(w);
    const float unit = weight_unit(w), inverse = inverse_of_unit(unit);
    int exponent = 0;
    EXPECT_EQ(std::frexp(unit, &exponent), 0.5f);
    EXPECT_EQ(unit * inverse, 1.0f);
    EXPECT_TRUE(std::isnormal(unit) && std::isnormal(inverse));
    EXPECT_LT(w * inverse, 1.0f);
    EXPECT_TRUE(w < 0x1p-126f || w * inverse >= 0.5f);
    EXPECT_EQ(w * inverse * unit, w);
  }
}

TEST(RationalTanh, FineExponentialsErrByOneRoundingAndAThird) {
  double worst = 0;
  const auto try_it = [&](float x) {
    worst = std::max(worst, std::abs(exp_of_double(x) / std::exp(2.0 * x) - 1));
  };
  // Every 61st of all floats from 2^-26 on, below which e^(2 x) is 1 in fp32.
  for (auto bits = std::bit_cast<uint32_t>(0x1p-26f);
       bits < std::bit_cast<uint32_t>(kRationalRange); bits += 61)
    try_it(std::bit_cast<float>(bits)), try_it(-std::bit_cast<float>(bits));
  try_it(kRationalRange), try_it(-kRationalRange);
  EXPECT_LT(worst, 1.3 * kU);
  EXPECT_GT(worst, 1.2 * kU);
  for (const float x : {0.0f, -0.0f, 0x1p-149f, -0x1p-126f}) EXPECT_EQ(exp_of_double(x), 1) << x;
  EXPECT_TRUE(std::isnan(exp_of_double(NAN)));
  EXPECT_TRUE(std::isnan(exp_of_double(-NAN)));
}

// What the comment of rational.h adds up in units of u, over all |q| + |k| and all sums of that
// size: the largest over max(1, |q| + |k|).
double worst_of(const std::function<double(double size, double x)>& roundings) {
  double worst = 0;
  for (int at = 1; at <= 2200; ++at)
    for (int part = -200; part <= 200; ++part) {
      const double size = at / 100.0;
      worst = std::max(worst, roundings(size, size * part / 200) / std::max(1.0, size));
    }
  return worst;
}

TEST(RationalTanh, RoundingsAddUpToLessThanThePromise) {
  const double coarse = worst_of([](double size, double x) {
    const double e = std::exp(2 * x), d = 1 + e;
    return (8 + 2.5 * size) * 2 * e / (d * d) + 6 * 2 / d;
  });
  EXPECT_LT(coarse, 13.1);
  EXPECT_GT(coarse, 12.5);
  const double fine = worst_of([](double, double x) {
    const double t = std::tanh(x);
    return 7 * std::abs(t) + (1 + t) / 2 + 1.3 * (1 - t * t);
  });
  EXPECT_LT(fine, 6.8);
  EXPECT_GT(fine, 6.7);
}

struct Form {
  bool fine;
  bool as_wrong_as_may_be;
  bool both;  // of two dims have a weight, else one
};

// Errors of sums of w tanh over what |q| + |k| allow.
double worst_error(const Form& form) {
  std::mt19937_64 random(7);
  const auto uniform = [&](double most) {
    return std::uniform_real_distribution<double>(-most, most)(random);
  };
  const auto ulps = [&](int most) {
    return form.as_wrong_as_may_be ? (random() % 2 == 0 ? most : -most) : 0;
  };
  const auto size = [&] {
    return uniform(std::exp2(std::uniform_real_distribution<double>(-4, 3.44)(random)));
  };
  double worst = 0;
  for (int n = 0; n < 2'000'000; ++n) {
    float numerator[2], d[2];
    double sum_w = 0, want = 0, allowed = 0;
    for (int dim = 0; dim < 2; ++dim) {
      const auto q = static_cast<float>(size());
      // Every other k is near -q.
      const auto k = static_cast<float>(
          n % 2 == 0 ? size()
                     : std::clamp<double>(uniform(2) - q, -kRationalRange, kRationalRange));
      // Not 1, whose products are not rounded.
      const auto w = static_cast<float>(dim == 1 && !form.both ? 0 : 0.75 + uniform(0.25));
      if (form.fine) {
        const float eq = exp_of_double(q), ek = exp_of_double(k);
        numerator[dim] = std::fma(eq, w * ek, -w);
        d[dim] = std::fma(eq, ek, 1.0f);
      } else {
        numerator[dim] = -2 * w;
        d[dim] = std::fma(coarse_feature(q, ulps(2)), coarse_feature(k, ulps(2)), 1.0f);
      }
      sum_w += w;
      want += w * std::tanh(static_cast<double>(q) + k);
      allowed += w * std::max(1.0, static_cast<double>(std::abs(q)) + std::abs(k));
    }
    const double got =
        (form.fine ? 0 : sum_w) + fractions(numerator[0], d[0], numerator[1], d[1], ulps(1));
    worst = std::max(worst, std::abs(got - want) / allowed);
  }
  return worst;
}

TEST(RationalTanh, CoarseErrsByAPartOfOne) {
  for (const bool both : {false, true}) {
    const double worst = worst_error({false, true, both});
    EXPECT_LT(worst, 0x1p-20) << both;
    EXPECT_GT(worst, 0x1p-22) << both << ": the promise is not far from what may happen";
    EXPECT_LT(worst_error({false, false, both}), 0x1p-21) << both;
  }
}

TEST(RationalTanh, FineErrsByHalfOfThat) {
  for (const bool both : {false, true}) {
    const double worst = worst_error({true, true, both});
    EXPECT_LT(worst, 0x1p-21) << both;
    EXPECT_GT(worst, 0x1p-23) << both << ": the promise is not far from what may happen";
    EXPECT_LT(worst_error({true, false, both}), 0x1p-22) << both;
  }
}

}  // namespace
}  // namespace qkv::test
