// T2: top-k selection where every kernel's scores are exact, sums of whole numbers. Index and
// top_scores are the oracle's, then, whatever stands beside the best keys: of equal ones the
// lowest; NaN first; never a key of -inf, nor a hidden one. And no output depends on which others
// are asked for.
#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "host/ops/attention/reference/attention.h"
#include "tests/support/each_type.h"
#include "tests/support/hidden_keys.h"

namespace qkv::test {
namespace {

enum class Keys { kWords, kNaN, kInfinite };

class TopIndex : public EachType {
 protected:
  // Tiles of few and many rows, heads that share a tile, keys in one piece and in several.
  std::vector<Case> variants() const {
    Case row = typed({.name = "ties", .batch = 1, .scale = 0.5f});
    std::vector<Case> rows;
    for (const int64_t k : {1, 2, 7, 64, 128})
      rows.push_back(row.select_top(k).heads(2, 2).sizes(k == 7 ? 70 : 18, 200).dims(64, 8));
    row.select_top(10).heads(4, 1);
    rows.push_back(row.sizes(17, 150));
    rows.back().inputs = {{kMask, kAllAxes}};
    rows.push_back(row.sizes(3, 2300));
    rows.back().causal = true;
    rows.push_back(row.sizes(1, 2100).select_top(100));
    rows.push_back(row.sizes(20, 130).select_top(60));
    rows.back().scale = -0.5f;
    rows.back().window(90, 5);
    return rows;
  }
};
EACH_TYPE(TopIndex);

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
    double x = words[static_cast<size_t>((j * 7 + j / 11 + h) % 5)][static_cast<size_t>(d)];
    // 5 NaN of 200 keys; of the infinite keys one in 40 is a word, and in the second head none.
    if (d == 0 && keys == Keys::kNaN && j % 37 == 29 - h) x = std::nan("");
    if (d == 0 && keys == Keys::kInfinite && (j % 40 != 11 || h == 1)) x = -kInf;
    built.k.set(b, h, j, d, x);
  });
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// The index and top_scores of an exact problem, and O where a NaN or no key decides it.
void expect_exact(const BuiltProblem& built, const std::string& what) {
  const Case& row = built.row();
  const reference::Result want = reference::attention(built.oracle_problem());
  const std::vector<double> index = built.index.dense(), scores = built.top_scores.dense();
  ASSERT_EQ(index.size(), want.top.size());
  for (size_t at = 0; at < index.size(); ++at) {
    SCOPED_TRACE(host::text("element ", at, what, '\n', replay(row)));
    ASSERT_EQ(index[at], static_cast<double>(want.top[at]));
    ASSERT_TRUE(same(scores[at], want.top_scores[at])) << scores[at];
  }
  EXPECT_TRUE(accepted(built)) << what;
}

TEST_P(TopIndex, T2_AmongEqualOnesNaNAndInfinities) {
  for (const Case& row : variants()) {
    for (const Keys keys : {Keys::kWords, Keys::kNaN, Keys::kInfinite}) {
      BuiltProblem built(row, {.seed = test_seed()});
      fill(built, keys);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_NO_FATAL_FAILURE(expect_exact(built, host::text(", keys ", static_cast<int>(keys))));
    }
  }
}

TEST_P(TopIndex, T2_NoHiddenKey) {
  Case row = typed({.name = "hidden"});
  row.select_top(3);
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

// Lists full of NaN, with a last key at every power of two, where a search for a key's place ends;
// in tiles of few rows and of many.
TEST_P(TopIndex, T2_MoreNaNThanKeysAreKept) {
  for (const int64_t queries : {3, 70}) {
    for (int64_t k = 1; k <= 128; k *= 2) {
      Case row = typed({.name = "nan"});
      row.select_top(k).one_head().sizes(queries, 200).dims(8, 8);
      BuiltProblem built(row, {.seed = test_seed()});
      built.k.fill(std::nan(""));
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_NO_FATAL_FAILURE(expect_exact(built, ""));
    }
  }
}

// Falling scores of three blocks of 32 keys, then `few` better keys, then a block of which all are
// better than the last that was kept before these few, and worse than the last one now.
int64_t few_then_a_block(int64_t j, int64_t k, int64_t few) {
  if (j < 96) return 200 - j;
  if (j < 96 + few) return 230 - j + 96;
  return j >= 128 && j < 160 ? 202 - k : -1;
}

// Each key passes what was kept before it; none but the first; some; by turns one of 32 keys and
// all; few ahead of all, or of none. In tiles of few rows and of many, with lists of more than 32
// keys and of more than 64.
TEST_P(TopIndex, T2_InAnyOrderOfScores) {
  using Score = int64_t (*)(int64_t j, int64_t k);
  constexpr Score kOrders[] = {
      [](int64_t j, int64_t) { return j; },
      [](int64_t j, int64_t) { return -j; },
      [](int64_t j, int64_t) { return j * 97 % 251; },
      [](int64_t j, int64_t) { return j / 32 % 2 == 1 && j % 32 != 0 ? -j : j; },
      [](int64_t j, int64_t k) { return few_then_a_block(j, k, 1); },
      [](int64_t j, int64_t k) { return few_then_a_block(j, k, 4); },
      [](int64_t j, int64_t k) { return j < 128 ? few_then_a_block(j, k, 4) : -1; },
  };
  for (size_t order = 0; order < std::size(kOrders); ++order) {
    for (const auto& [queries, k] : {std::pair<int64_t, int64_t>{20, 37}, {70, 70}}) {
      Case row = typed({.name = "order", .batch = 1, .scale = 1.0f});
      row.select_top(k).one_head().sizes(queries, 250).dims(8, 8);
      BuiltProblem built(row, {.seed = test_seed()});
      built.q.fill(0);
      built.k.fill(0);
      for (int64_t i = 0; i < row.s_q; ++i) built.q.set(0, 0, i, 0, 1);
      for (int64_t j = 0; j < row.s_kv; ++j)
        built.k.set(0, 0, j, 0, static_cast<double>(kOrders[order](j, k)));
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_NO_FATAL_FAILURE(expect_exact(built, host::text(", order ", order)));
    }
  }
}

// The values of keys that are not chosen do not count, whatever they are.
TEST_P(TopIndex, T2_OtherValuesDoNotCount) {
  Case row = typed({.name = "values", .batch = 1});
  row.select_top(5).sizes(20, 90);
  BuiltProblem plain(row, {.seed = test_seed()}), built(row, {.seed = test_seed()});
  ASSERT_EQ(plain.run(), QKV_SUCCESS) << qkv_last_error();
  std::vector<bool> chosen(static_cast<size_t>(row.s_kv * row.heads_kv));
  plain.index.each([&](int64_t b, int64_t h, int64_t i, int64_t n) {
    chosen[static_cast<size_t>(h * row.s_kv) + static_cast<size_t>(plain.index.get(b, h, i, n))] =
        true;
  });
  built.v.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
    if (!chosen[static_cast<size_t>(h * row.s_kv + j)]) built.v.set(b, h, j, d, std::nan(""));
  });
  ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(built.o.bits(), plain.o.bits()) << replay(row);
}

// What is written does not depend on what else is; without the index nothing else says so. With
// weights heads of a group share no tile on the CPU: as few queries as two heads in one tile have
// another product there. On a GPU 16-bit types have another kernel with weights than without.
TEST_P(TopIndex, T13_WhateverIsAskedFor) {
  const bool one_kernel = place().device() == QKV_DEVICE_CPU || GetParam() == QKV_TYPE_F32;
  for (const auto& [queries, weights] :
       {std::pair<int64_t, bool>{1, true}, {40, true}, {40, false}}) {
    Case row = typed({.name = "asked", .batch = 1});
    row.select_top(9).heads(4, 2).sizes(queries, 300);
    row.weights = weights ? QKV_TYPE_F32 : QKV_TYPE_NONE;
    BuiltProblem whole(row, {.seed = test_seed()});
    ASSERT_EQ(whole.run(), QKV_SUCCESS) << qkv_last_error();
    for (const TensorId left_out : {kLse, kIndex, kTopScores, kWeights}) {
      if (left_out == kLse) row.lse = false;
      if (left_out == kIndex) row.index = QKV_TYPE_NONE;
      if (left_out == kTopScores) row.top_scores = false;
      if (left_out == kWeights && queries > 1 && one_kernel) row.weights = QKV_TYPE_NONE;
      BuiltProblem less(row, {.seed = test_seed()});
      ASSERT_EQ(less.run(), QKV_SUCCESS) << qkv_last_error();
      for (const TensorId id : {kO, kLse, kIndex, kTopScores, kWeights}) {
        if (less[id].present()) {
          EXPECT_EQ(less[id].bits(), whole[id].bits()) << id << replay(row);
        }
      }
    }
  }
}

}  // namespace
}  // namespace qkv::test
