// Additive scores whatever the size of q and k: where a series of sines serves tanh, where it does
// not, in one problem beside each other, and where tanh is +-1. What stands beside a row or a key
// must not choose for it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "host/verify/tolerance.h"
#include "tests/support/each_type.h"

namespace qkv::test {
namespace {

class AdditiveRange : public EachType {
 protected:
  // Each way through a kernel: widths, rules, few queries.
  std::vector<Case> variants() const {
    Case row = typed({.name = "range", .batch = 1, .score = QKV_SCORE_ADDITIVE});
    std::vector<Case> rows;
    rows.push_back(row.heads(1, 1).sizes(70, 70).dims(16, 64));
    rows.push_back(row.sizes(70, 20).dims(24, 128));
    rows.push_back(row.heads(2, 1).sizes(3, 70).dims(16, 24));
    rows.back().inputs = {{kBias, kHeads | kKeys}};
    return rows;
  }
};
EACH_TYPE(AdditiveRange);

class AdditiveRangeInFp32 : public AdditiveRange {};
IN_FP32(AdditiveRangeInFp32);

void multiply(const Tensor& tensor, double by) {
  tensor.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    tensor.set(b, h, i, d, by * tensor.get(b, h, i, d));
  });
}

TEST_P(AdditiveRange, T1_OfEverySize) {
  for (const Case& row : variants()) {
    for (const double size : {0.1, 2.0, 5.0, 3000.0}) {
      SCOPED_TRACE(host::text("q and k are N(0, 1) times ", size));
      BuiltProblem built(row, {.seed = test_seed()});
      multiply(built.q, size), multiply(built.k, size);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      EXPECT_TRUE(accepted(built));
    }
  }
}

// q + k is small, q and k are not: from the edge of a series' range to where e^(2q) overflows.
TEST_P(AdditiveRange, T1_OfLargeNumbersThatCancel) {
  for (const Case& row : variants()) {
    for (const double apart : {3.0, 60.0}) {
      SCOPED_TRACE(host::text("q and k lie ", 2 * apart, " apart"));
      BuiltProblem built(row, {.seed = test_seed()});
      const auto shift = [](const Tensor& tensor, double by) {
        tensor.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
          tensor.set(b, h, i, d, 0.3 * tensor.get(b, h, i, d) + (d % 3 == 0 ? -by : by));
        });
      };
      shift(built.q, apart), shift(built.k, -apart);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      EXPECT_TRUE(accepted(built));
    }
  }
}

// The LSE of one key is its score: qkv.h's bound of tanh in fp32, and a sum's own roundings.
TEST_P(AdditiveRangeInFp32, T1_TanhErrsByWhatTheContractSays) {
  Case row = typed({.name = "tanh", .batch = 8, .score = QKV_SCORE_ADDITIVE});
  row.heads(2, 1).sizes(300, 1).dims(2, 8).scale = 1, row.lse = true;
  for (const double size : {0.5, 2.0}) {
    SCOPED_TRACE(host::text("q and k are N(0, 1) times ", size));
    BuiltProblem built(row, {.seed = test_seed()});
    multiply(built.q, size), multiply(built.k, size);
    ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
    int wrong = 0;
    built.lse.each([&](int64_t b, int64_t h, int64_t i, int64_t) {
      double want = 0, allowed = 0;
      for (int64_t d = 0; d < row.d_qk; ++d) {
        const double q = built.q.get(b, h, i, d), k = built.k.get(b, 0, 0, d);
        const double w = built[kAdditive].get(0, h, 0, d);
        want += w * std::tanh(q + k);
        allowed += 0x1p-21 * std::abs(w) * std::max(1.0, std::abs(q) + std::abs(k));
      }
      allowed += 3 * 0x1p-24 * std::abs(want);
      wrong += std::abs(built.lse.get(b, h, i, 0) - want) <= allowed ? 0 : 1;
    });
    EXPECT_EQ(wrong, 0) << replay(row);
  }
}

// Weights of any size, also one far above all others.
TEST_P(AdditiveRange, T1_OfWeightsOfEverySize) {
  Case row = variants().front();
  row.lse = true;
  for (const double size : {1e-36, 1e-4, 1e4}) {
    SCOPED_TRACE(host::text("weights of ", size));
    BuiltProblem built(row, {.seed = test_seed()});
    const Tensor& w = built[kAdditive];
    w.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      w.set(b, h, i, d, w.get(b, h, i, d) * size * (d == 7 ? 1.0 : 1e-5));
    });
    ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
    EXPECT_TRUE(accepted(built));
  }
}

// T13 in the small: a query's result is the same bits whatever its neighbours are, a key's part in
// it whatever other keys are that weigh nothing.
TEST_P(AdditiveRange, T13_DoesNotDependOnNeighbours) {
  for (const Case& row : variants()) {
    BuiltProblem plain(row, {.seed = test_seed()}), other(row, {.seed = test_seed()});
    other.q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      if (i % 2 == 1) other.q.set(b, h, i, d, 30 * other.q.get(b, h, i, d));
    });
    for (BuiltProblem* built : {&plain, &other})
      ASSERT_EQ(built->run(), QKV_SUCCESS) << qkv_last_error();
    int changed = 0;
    plain.o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      changed += i % 2 == 0 && plain.o.get(b, h, i, d) != other.o.get(b, h, i, d);
    });
    EXPECT_EQ(changed, 0) << replay(row);
  }
}

// Infinities against each other, the largest and smallest numbers, both sides of a range's edge:
// each element of q meets each of k in one dim.
TEST_P(AdditiveRange, T4_WhereTanhIsOneOrNothing) {
  const double largest = GetParam() == QKV_TYPE_F16 ? 65504 : 0x1p127;
  const double elements[] = {kInf,    -kInf,   largest,  -largest,           3.375, 3.3770, 10.875,
                             -10.875, 10.9375, -10.9375, ulp(GetParam(), 0), 0};
  constexpr size_t kElements = std::size(elements);
  for (const Case& row : variants()) {
    // Without infinities of both signs, which make NaN of every row that has one, and with them.
    for (const size_t first : {size_t{1}, size_t{0}}) {
      BuiltProblem built(row, {.seed = test_seed()});
      const auto put = [&](const Tensor& tensor) {
        tensor.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
          if (d == 5)
            tensor.set(b, h, i, d, elements[first + static_cast<size_t>(i) % (kElements - first)]);
        });
      };
      put(built.q), put(built.k);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      EXPECT_TRUE(accepted(built));
    }
  }
}

// Of one weight nothing is left to the others.
TEST_P(AdditiveRange, T4_WeightsThatAreNoNumbersOrLarge) {
  for (const Case& row : variants()) {
    for (const double w : {std::nan(""), kInf, -kInf, 0x1p61, 0x1p60}) {
      SCOPED_TRACE(host::text("a weight of ", w));
      BuiltProblem built(row, {.seed = test_seed()});
      // The tolerance of a series is a part of the weights: of infinite ones it is no number.
      if (std::isinf(w) && verify::tanh_of(built) == verify::Tanh::kSeries) continue;
      for (int64_t h = 0; h < row.heads_q; ++h) built[kAdditive].set(0, h, 0, 9, w);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      EXPECT_TRUE(accepted(built));
    }
  }
}

}  // namespace
}  // namespace qkv::test
