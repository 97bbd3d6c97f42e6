// T2: hard selection where every kernel's scores are exact, sums of whole numbers. The index is the
// oracle's, then, whatever stands beside the best key: the lowest of equal ones; the first NaN, if
// there is one; never a key of -inf, nor a hidden one. O is its row of V, LSE its score.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "host/ops/attention/reference/attention.h"
#include "tests/support/each_type.h"
#include "tests/support/hidden_keys.h"

namespace qkv::test {
namespace {

enum class Keys { kWords, kNaN, kInfinite };

class HardIndex : public EachType {
 protected:
  // Each way through a kernel: widths, rules, packed heads, keys in one piece and in several.
  std::vector<Case> variants() const {
    Case row = typed({.name = "ties", .batch = 1, .selection = QKV_SELECT_HARD, .scale = 0.5f});
    row.index = QKV_TYPE_I32;
    std::vector<Case> rows;
    for (const int64_t d : {64, 128, 256})
      rows.push_back(row.heads(2, 2).sizes(70, 200).dims(d, 8));
    row.dims(64, 64).heads(4, 1);
    rows.push_back(row.sizes(37, 150));
    rows.back().inputs = {{kMask, kAllAxes}};
    rows.push_back(row.sizes(3, 1300));
    rows.back().causal = true;
    rows.push_back(row.sizes(40, 130));
    rows.back().scale = -0.5f;
    rows.back().window(90, 5);
    return rows;
  }
};
EACH_TYPE(HardIndex);

class HardIndexInFp32 : public HardIndex {};
IN_FP32(HardIndexInFp32);

// Every element -1, 0 or 1; a key has one of five words, by its head.
void fill(const BuiltProblem& built, Keys keys) {
  Random random(test_seed());
  const auto small = [&] { return static_cast<double>(random.integer(-1, 1)); };
  built.q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    built.q.set(b, h, i, d, d == 0 ? 1 : small());
  });
  std::vector<std::vector<double>> words(5);
  for (auto& word : words)
    for (int64_t d = 0; d < built.row().d_qk; ++d) word.push_back(small());
  built.k.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
    // Of the infinite keys a third are words, and in the first head none.
    double x = words[static_cast<size_t>((j * 7 + j / 11 + h) % 5)][static_cast<size_t>(d)];
    if (d == 0 && keys == Keys::kNaN && j % 37 == 29 - h) x = std::nan("");
    if (d == 0 && keys == Keys::kInfinite && (j % 3 != 0 || h == 0)) x = -kInf;
    built.k.set(b, h, j, d, x);
  });
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// The index, LSE and O of an exact problem.
void expect_exact(const BuiltProblem& built, const std::string& what) {
  const Case& row = built.row();
  const reference::Result want = reference::attention(built.oracle_problem());
  size_t at = 0;
  for (int64_t b = 0; b < row.batch; ++b)
    for (int64_t h = 0; h < row.heads_q; ++h)
      for (int64_t i = 0; i < row.s_q; ++i, ++at) {
        SCOPED_TRACE(host::text("batch ", b, ", head ", h, ", query ", i, what, '\n', replay(row)));
        const int64_t key = want.index[at];
        ASSERT_EQ(built.index.get(b, h, i, 0), static_cast<double>(key));
        ASSERT_TRUE(same(built.lse.get(b, h, i, 0), want.lse[at]));
        for (int64_t d = 0; d < row.d_v; ++d) {
          const int64_t h_kv = h / (row.heads_q / row.heads_kv);
          ASSERT_EQ(built.o.get(b, h, i, d), key < 0 ? 0 : built.v.get(b, h_kv, key, d));
        }
      }
}

TEST_P(HardIndex, T2_AmongEqualOnesNaNAndInfinities) {
  for (const Case& row : variants()) {
    for (const Keys keys : {Keys::kWords, Keys::kNaN, Keys::kInfinite}) {
      BuiltProblem built(row, {.seed = test_seed()});
      fill(built, keys);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_NO_FATAL_FAILURE(expect_exact(built, host::text(", keys ", static_cast<int>(keys))));
    }
  }
}

// Factors below fp32's normal numbers whose products are ordinary numbers, in Q or in K, in some
// rows and blocks of keys and not in others. Every score is exact.
TEST_P(HardIndexInFp32, T4_AmongTinyFactors) {
  for (const Case& row : variants()) {
    for (const bool tiny_q : {false, true}) {
      BuiltProblem built(row, {.seed = test_seed()});
      Random random(test_seed());
      const auto whole = [&](int64_t from, int64_t to, int exponent) {
        return std::ldexp(static_cast<double>(random.integer(from, to)), exponent);
      };
      // Of q k in dim 0 one is a whole number times 2^-149, the other one large; dim 1 adds -2^-60,
      // 0 or 2^-60. Without a tiny factor dim 0 adds 0, or in a row of Q what is far above dim 1.
      built.q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        const double q0 = !tiny_q ? 0x1p89 : i % 3 == 1 ? 1 : whole(1, 8191, -149);
        built.q.set(b, h, i, d, d == 0 ? q0 : whole(-1, 1, d == 1 ? -20 : 0));
      });
      built.k.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
        const double k0 = tiny_q            ? whole(-63, 63, 84)
                          : j / 16 % 3 == 1 ? 0
                                            : whole(-8191, 8191, -149);
        built.k.set(b, h, j, d, d == 0 ? k0 : d == 1 ? whole(-1, 1, -40) : 0);
      });
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_NO_FATAL_FAILURE(expect_exact(built, host::text(", tiny_q ", tiny_q)));
    }
  }
}

TEST_P(HardIndex, T2_NoHiddenKey) {
  Case row = typed({.name = "hidden", .selection = QKV_SELECT_HARD});
  row.index = QKV_TYPE_I64;
  hide_keys(row);
  for (const bool rules : {false, true}) {
    if (rules) row.inputs = {{kMask, kQueries | kKeys}};
    for (const int64_t side : {-1, 1}) {
      BuiltProblem built(row, {.seed = test_seed()});
      fill_parabolas(built, side);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_NO_FATAL_FAILURE(expect_exact(built, host::text(", side ", side)));
    }
  }
}

// Where K ends one key ahead of a kernel's block of keys, and any key of zeros would be the best.
TEST_P(HardIndex, T2_NoKeyBehindTheLast) {
  Case row = typed({.name = "last", .batch = 4, .selection = QKV_SELECT_HARD, .scale = 1.0f});
  row.index = QKV_TYPE_I32;
  row.heads(1, 1).sizes(70, 200).dims(64, 8).lengths = {63, 127, 191, 31};
  BuiltProblem built(row, {.seed = test_seed()});
  built.q.fill(0);
  built.k.fill(0);
  built.q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    if (d == 0) built.q.set(b, h, i, d, 1);
  });
  built.k.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
    if (d == 0) built.k.set(b, h, j, d, static_cast<double>(-1 - j * 5 % 7));
  });
  built.poison_hidden_keys();
  ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
  ASSERT_NO_FATAL_FAILURE(expect_exact(built, ""));
}

}  // namespace
}  // namespace qkv::test
