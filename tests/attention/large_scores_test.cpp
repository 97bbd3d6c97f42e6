// Scores of any size that fp32 holds. Kernels compute exponents as factor * s - m; where |m| is
// large, a rounded m is a wrong exponent: the best key's weight comes out as 2^k, infinite or 0.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/each_type.h"

namespace qkv::test {
namespace {

class LargeScores : public EachType {
 protected:
  // One for each way into a kernel's softmax: plain and, for kernels that have it apart, with
  // rules; widths that each kernel takes; keys in one piece and in several.
  std::vector<Case> variants() const {
    std::vector<Case> rows;
    for (const int64_t d : {63, 64, 128}) {
      for (const int64_t split : {0, 64}) {
        Case row = typed({.name = "large"});
        rows.push_back(row.one_head().sizes(20, 130).dims(d, d));
        rows.back().fixed_split = split;
      }
    }
    return rows;
  }
};
EACH_TYPE(LargeScores);

const double kSizes[] = {1e3, 1e4, 1e6, 4e8, 2.4e9, 1e14, 1e25, 1.7e38};

std::string what(const Case& row, double size) {
  return host::text("scores of ", size, '\n', replay(row));
}

// Key j scores `size` where j % d = i % d, 0 elsewhere: these keys share all the weight.
TEST_P(LargeScores, T29_TheBestKeysHaveAllTheWeight) {
  for (Case row : variants()) {
    for (const double size : kSizes) {
      row.scale = static_cast<float>(size);
      BuiltProblem built(row, {.seed = test_seed()});
      const int64_t d = row.d_qk;
      built.q.each([&](int64_t b, int64_t h, int64_t i, int64_t x) {
        built.q.set(b, h, i, x, x == i % d ? 1 : 0);
      });
      built.k.each([&](int64_t b, int64_t h, int64_t j, int64_t x) {
        built.k.set(b, h, j, x, x == j % d ? 1 : 0);
      });
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      built.o.each([&](int64_t b, int64_t h, int64_t i, int64_t x) {
        double sum = 0, largest = 0;
        int best = 0;
        for (int64_t j = i % d; j < row.s_kv; j += d, ++best) {
          const double v = built.v.get(b, h, j, x);
          sum += v;
          largest = std::max(largest, std::abs(v));
        }
        // Each sum, the inverse and the product are rounded once in fp32, O once more.
        const double allowed = 0x1p-24 * (best + 2) * largest + ulp(row.type, sum / best) / 2;
        ASSERT_NEAR(built.o.get(b, h, i, x), sum / best, allowed) << what(row, size);
      });
      built.lse.each([&](int64_t b, int64_t h, int64_t i, int64_t) {
        const double best = static_cast<double>((row.s_kv - 1 - i % d) / d + 1);
        const double want = static_cast<double>(*row.scale) + std::log(best);
        ASSERT_NEAR(built.lse.get(b, h, i, 0), want, 1e-6 * want) << what(row, size);
      });
    }
  }
}

// A bias of one size on all keys takes nothing from any of them, however large it is and whatever
// its sign. Twice that bias does, where it is negative.
TEST_P(LargeScores, T29_BiasesOfAnySize) {
  for (Case row : variants()) {
    row.inputs[kBias] = {.axes = kKeys, .f32 = true};
    for (const double size : kSizes) {
      for (const double sign : {-1.0, 1.0}) {
        const auto bias = static_cast<double>(static_cast<float>(sign * size));
        const bool halves = sign < 0 && size <= 1e38;
        BuiltProblem built(row, {.seed = test_seed()});
        built.q.fill(0);
        built[kBias].each([&](int64_t b, int64_t h, int64_t i, int64_t j) {
          built[kBias].set(b, h, i, j, halves && j % 2 == 1 ? 2 * bias : bias);
        });
        ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
        const int64_t step = halves ? 2 : 1;
        const auto count = static_cast<double>((row.s_kv + step - 1) / step);
        built.o.each([&](int64_t b, int64_t h, int64_t i, int64_t x) {
          double sum = 0, magnitude = 0;
          for (int64_t j = 0; j < row.s_kv; j += step) {
            sum += built.v.get(b, h, j, x);
            magnitude += std::abs(built.v.get(b, h, j, x));
          }
          // Sums of fp32, and O rounded once: the weights are powers of two.
          const double allowed = 0x1p-20 * magnitude / count + ulp(row.type, sum / count);
          ASSERT_NEAR(built.o.get(b, h, i, x), sum / count, allowed) << what(row, bias);
        });
        built.lse.each([&](int64_t b, int64_t h, int64_t i, int64_t) {
          ASSERT_NEAR(built.lse.get(b, h, i, 0), bias + std::log(count), 1e-6 * (1 + size))
              << what(row, bias);
        });
      }
    }
  }
}

// Scores whose differences are small beside their size, as real models have them: sums of small
// integers and one large product, exact in fp32 in any order, so that all that the softmax does to
// them is its own.
TEST_P(LargeScores, T29_DifferencesBesideALargeConstant) {
  for (Case row : variants()) {
    row.sizes(70, 130).heads(2, 1).scale = 0.125f;
    for (const int power : {5, 8, 11}) {
      for (const double sign : {-1.0, 1.0}) {
        BuiltProblem built(row, {.seed = test_seed()});
        Random random(test_seed() + static_cast<uint64_t>(power));
        const int64_t last = row.d_qk - 1;
        built.q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
          built.q.set(b, h, i, d,
                      d == last ? std::exp2(power) : static_cast<double>(random.integer(-2, 2)));
        });
        built.k.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
          built.k.set(
              b, h, j, d,
              d == last ? sign * std::exp2(power) : static_cast<double>(random.integer(-2, 2)));
        });
        ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
        ASSERT_TRUE(accepted(built)) << what(row, sign * std::exp2(2 * power - 3));
      }
    }
  }
}

// A row with large scores takes another path through a kernel; the rows that share its warp keep
// their bits.
TEST_P(LargeScores, T29_ALargeRowLeavesItsNeighboursAlone) {
  constexpr int64_t kLarge = 7;
  for (Case row : variants()) {
    row.sizes(70, 130);
    BuiltProblem plain(row, {.seed = test_seed()}), built(row, {.seed = test_seed()});
    for (int64_t d = 0; d < row.d_qk; ++d)
      built.q.set(0, 0, kLarge, d, 0x1p13 * std::copysign(1.0, built.q.get(0, 0, kLarge, d)));
    ASSERT_EQ(plain.run(), QKV_SUCCESS) << qkv_last_error();
    ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
    for (const TensorId id : {kO, kLse}) {
      built[id].each([&, id = id](int64_t b, int64_t h, int64_t i, int64_t d) {
        if (i == kLarge) return;
        ASSERT_EQ(built[id].get(b, h, i, d), plain[id].get(b, h, i, d)) << i << '\n' << replay(row);
      });
    }
  }
}

// Maxima that rise while a kernel walks over the keys, from whichever end: by nothing but a last
// bit, by less and more than the roundings of a weight show, by all that there was before.
TEST_P(LargeScores, T29_MaximaThatRise) {
  for (const int64_t d : {64, 128}) {
    for (const double log2_step : {0x1p-10, 0.25, 1.0, 7.9, 8.1, 40.0}) {
      Case row = typed({.name = "rises"});
      row.one_head().sizes(70, 330).dims(d, d).scale = static_cast<float>(log2_step * std::log(2));
      BuiltProblem built(row, {.seed = test_seed()});
      // Two dims say which sixteen keys a key is of, up and down, the others blur it.
      Random random(test_seed());
      built.q.each([&](int64_t b, int64_t h, int64_t i, int64_t x) {
        const double blurs = x < 4 ? static_cast<double>(random.integer(-1, 1)) / 4 : 0;
        built.q.set(b, h, i, x, x < 2 ? static_cast<double>(x == i % 2) : blurs);
      });
      built.k.each([&](int64_t b, int64_t h, int64_t j, int64_t x) {
        const auto of = static_cast<double>(j / 16);
        built.k.set(b, h, j, x,
                    x == 0   ? of
                    : x == 1 ? 20 - of
                             : static_cast<double>(random.integer(-2, 2)) / 4);
      });
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_TRUE(accepted(built)) << what(row, log2_step);
    }
  }
}

// A key of infinite scores among the first or last ones of a walk: NaN in the rows that it is the
// best key of, nothing in the others.
TEST_P(LargeScores, T29_AnInfiniteScoreComesLate) {
  for (Case row : variants()) {
    row.sizes(40, 330);
    for (const int64_t key : {int64_t{0}, row.s_kv - 1}) {
      BuiltProblem built(row, {.seed = test_seed()});
      for (int64_t i = 0; i < row.s_q; ++i) built.q.set(0, 0, i, 0, i % 5 == 0 ? 1 : -1);
      built.k.set(0, 0, key, 0, kInf);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_TRUE(accepted(built)) << what(row, static_cast<double>(key));
    }
  }
}

// Where the maximum of one row of a warp rises in every block of keys, the kernel has work with it
// that is left out where none does: its neighbours keep their bits. Two rows, one for each
// direction of the walk.
TEST_P(LargeScores, T29_ARisingRowLeavesItsNeighboursAlone) {
  constexpr int64_t kNeighbour = 5, kRising = 7, kEvery = 32;
  const auto rises = [](int64_t i) {
    return i % kEvery - kRising == 0 || i % kEvery - kRising == 1;
  };
  for (const int64_t d : {64, 128}) {
    for (const int64_t split : {0, 640}) {
      Case row = typed({.name = "rising"});
      row.one_head().sizes(130, 640).dims(d, d).fixed_split = split;
      BuiltProblem plain(row, {.seed = test_seed()}), built(row, {.seed = test_seed()});
      for (BuiltProblem* problem : {&plain, &built}) {
        problem->q.each([&](int64_t b, int64_t h, int64_t i, int64_t x) {
          const bool up = problem == &built && rises(i) && x == i % kEvery - kRising;
          if (i % kEvery != kNeighbour || x < 2) problem->q.set(b, h, i, x, up ? 8 : 0);
        });
        for (int64_t j = 0; j < row.s_kv; ++j) {
          const auto of = static_cast<double>(j / 16);
          problem->k.set(0, 0, j, 0, of);
          problem->k.set(0, 0, j, 1, 40 - of);
        }
      }
      ASSERT_EQ(plain.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      for (const TensorId id : {kO, kLse}) {
        built[id].each([&, id = id](int64_t b, int64_t h, int64_t i, int64_t x) {
          if (rises(i)) return;
          ASSERT_EQ(built[id].get(b, h, i, x), plain[id].get(b, h, i, x)) << i << '\n'
                                                                          << replay(row);
        });
      }
    }
  }
}

// A best key whose value is 0 beside very many far below it: each alone has a weight that fp16
// would lose, all together have not.
TEST_P(LargeScores, T29_ManySmallWeightsAddUp) {
  Case row = typed({.name = "many"});
  row.one_head().sizes(1, 6000).dims(64, 64);
  for (const double below : {9.7, 15.0, 17.5}) {
    row.scale = 1;
    BuiltProblem built(row, {.seed = test_seed()});
    built.q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      built.q.set(b, h, i, d, d == 0 ? 1 : 0);
    });
    built.k.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
      built.k.set(b, h, j, d, d == 0 && j == 77 ? below : 0);
    });
    built.v.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
      built.v.set(b, h, j, d, j == 77 ? 0 : 1);
    });
    ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
    const double small = 5999 * std::exp(-built.k.get(0, 0, 77, 0));
    const double want = small / (1 + small);
    // Every weight alike is rounded once to the type, and O; equal terms are summed up in fp32,
    // whose roundings may all go the same way.
    const double sums = 5999 * 0x1p-24 + 1e-6;
    const double allowed = want * (2 * unit_roundoff(row.type) + sums) + ulp(row.type, want);
    built.o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      ASSERT_NEAR(built.o.get(b, h, i, d), want, allowed) << below;
    });
  }
}

}  // namespace
}  // namespace qkv::test
