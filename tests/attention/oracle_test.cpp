// The oracle against cases worked by hand: each option of the contract at least once. Everything
// else is tested against the oracle, so this is where the contract meets arithmetic on paper.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "host/core/numeric.h"
#include "host/ops/attention/reference/attention.h"
#include "tests/support/small_problem.h"

namespace qkv::test {
namespace {

using reference::Precision;
using reference::Result;
using Numbers = std::vector<double>;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfF = std::numeric_limits<float>::infinity();
constexpr double kE = 2.718281828459045;

Result solve(const qkv_attention_desc& desc, Precision precision = Precision::kDouble) {
  host::attention::Problem problem;
  const host::Status status =
      host::attention::validate(&desc, host::Need::kAddresses, host::cuda_runtime(), &problem);
  EXPECT_TRUE(status.ok()) << status.reason();
  return reference::attention(problem, precision);
}

// Equal but for the last bits of the literals; infinities and NaN in the same places.
void expect_near(const Numbers& got, const Numbers& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t n = 0; n < got.size(); ++n) {
    if (std::isnan(want[n])) {
      EXPECT_TRUE(std::isnan(got[n])) << "at " << n << ": " << got[n];
    } else if (std::isinf(want[n])) {
      EXPECT_EQ(got[n], want[n]) << "at " << n;
    } else {
      EXPECT_NEAR(got[n], want[n], 1e-12) << "at " << n;
    }
  }
}

TEST(Oracle, SoftmaxOfTwoScores) {
  SmallProblem p({.s_kv = 2, .d_qk = 2});
  p.q = {1, 0};
  p.k = {1, 0, 0, 1};
  p.v = {2, 4};
  p.desc.scale_set = 1;
  p.desc.scale = 1;
  const Result r = solve(p.desc);
  // Scores 1 and 0: p = e / (e + 1), 1 / (e + 1).
  expect_near(r.weights, {kE / (kE + 1), 1 / (kE + 1)});
  expect_near(r.o, {(2 * kE + 4) / (kE + 1)});
  expect_near(r.lse, {std::log(kE + 1)});
}

TEST(Oracle, DefaultScaleIsOneOverRootOfDim) {
  SmallProblem p({.s_kv = 1, .d_qk = 4});
  p.q = {1, 2, 3, 4};
  p.k = {1, 1, 1, 1};
  p.v = {7};
  const Result r = solve(p.desc);
  expect_near(r.lse, {5});  // 10 / sqrt(4); of one key LSE is the score
  expect_near(r.o, {7});
}

TEST(Oracle, AdditiveScore) {
  SmallProblem p({.s_kv = 1, .d_qk = 2});
  std::vector<float> w{1, -2};
  p.q = {0.5f, 1};
  p.k = {0.5f, -0.5f};
  p.v = {1};
  p.desc.score = QKV_SCORE_ADDITIVE;
  p.desc.additive_weight = contiguous(w, QKV_TYPE_F32, {1, 1, 1, 2});
  // 1 tanh(1) - 2 tanh(0.5) = 0.7615941559557649 - 0.9242343145200195; the default scale is 1.
  expect_near(solve(p.desc).lse, {0.7615941559557649 - 0.9242343145200195});
  p.desc.scale_set = 1;
  p.desc.scale = 2;
  expect_near(solve(p.desc).lse, {2 * (0.7615941559557649 - 0.9242343145200195)});
}

TEST(Oracle, AdditiveWeightsOfHeads) {
  SmallProblem p({.heads_q = 2, .heads_kv = 1});
  std::vector<float> w{1, 3};
  p.q = {1, 1};
  p.desc.score = QKV_SCORE_ADDITIVE;
  p.desc.additive_weight = contiguous(w, QKV_TYPE_F32, {1, 2, 1, 1});
  expect_near(solve(p.desc).lse, {0.7615941559557649, 3 * 0.7615941559557649});
  p.desc.additive_weight = contiguous(w, QKV_TYPE_F32, {1, 1, 1, 1});
  expect_near(solve(p.desc).lse, {0.7615941559557649, 0.7615941559557649});
}

TEST(Oracle, Softcap) {
  SmallProblem p({});
  p.q = {2};
  p.k = {1};
  p.desc.softcap = 2;
  expect_near(solve(p.desc).lse, {2 * 0.7615941559557649});  // 2 tanh(2 / 2)
}

// Distances |i + offset - j| of query 0 to keys 0, 1, 2 under slope 0.5.
TEST(Oracle, AlibiFollowsTheDiagonal) {
  SmallProblem p({.s_kv = 3});
  std::vector<float> slopes{0.5f}, weights(3);
  p.desc.alibi_slopes = contiguous(slopes, QKV_TYPE_F32, {1, 1, 1, 1});
  p.desc.weights = contiguous(weights, QKV_TYPE_F32, {1, 1, 1, 3});
  p.desc.weights_mode = QKV_WEIGHTS_MASKED;
  expect_near(solve(p.desc).weights, {-1, -0.5, 0});  // bottom-right: offset 2
  p.desc.alignment = QKV_ALIGN_TOP_LEFT;
  expect_near(solve(p.desc).weights, {0, -0.5, -1});
  p.desc.alignment = QKV_ALIGN_EXPLICIT;
  p.desc.offset = 1;
  expect_near(solve(p.desc).weights, {-0.5, 0, -0.5});
}

TEST(Oracle, BiasIsBroadcast) {
  SmallProblem p({.batch = 1, .heads_q = 2, .heads_kv = 2, .s_q = 2, .s_kv = 2});
  std::vector<float> weights(8), of_heads{10, 20}, of_keys{1, 2}, of_queries{5, 6};
  p.desc.weights = contiguous(weights, QKV_TYPE_F32, {1, 2, 2, 2});
  p.desc.weights_mode = QKV_WEIGHTS_MASKED;
  p.desc.bias = contiguous(of_heads, QKV_TYPE_F32, {1, 2, 1, 1});
  expect_near(solve(p.desc).weights, {10, 10, 10, 10, 20, 20, 20, 20});
  p.desc.bias = contiguous(of_keys, QKV_TYPE_F32, {1, 1, 1, 2});
  expect_near(solve(p.desc).weights, {1, 2, 1, 2, 1, 2, 1, 2});
  p.desc.bias = contiguous(of_queries, QKV_TYPE_F32, {1, 1, 2, 1});
  expect_near(solve(p.desc).weights, {5, 5, 6, 6, 5, 5, 6, 6});
  // Broadcast by stride 0 over the full extents.
  p.desc.bias = contiguous(of_keys, QKV_TYPE_F32, {1, 2, 2, 2});
  p.desc.bias.stride[1] = p.desc.bias.stride[2] = 0;
  expect_near(solve(p.desc).weights, {1, 2, 1, 2, 1, 2, 1, 2});
}

// Softcap comes before the bias, ALiBi after it, and the bias is not scaled.
TEST(Oracle, OrderOfOperations) {
  SmallProblem p({.s_kv = 1});
  std::vector<float> bias{10}, slopes{3}, weights(1);
  p.q = {2};
  p.k = {4};
  p.desc.scale_set = 1;
  p.desc.scale = 0.25f;
  p.desc.softcap = 2;
  p.desc.bias = contiguous(bias, QKV_TYPE_F32, {1, 1, 1, 1});
  p.desc.alibi_slopes = contiguous(slopes, QKV_TYPE_F32, {1, 1, 1, 1});
  p.desc.alignment = QKV_ALIGN_EXPLICIT;
  p.desc.offset = 2;
  p.desc.weights = contiguous(weights, QKV_TYPE_F32, {1, 1, 1, 1});
  // 2 * 4 / 4 = 2; 2 tanh(1) = 1.523...; + 10 - 3 * 2 = 5.523...
  p.desc.weights_mode = QKV_WEIGHTS_SCORES;
  expect_near(solve(p.desc).weights, {2});
  p.desc.weights_mode = QKV_WEIGHTS_SOFTCAPPED;
  expect_near(solve(p.desc).weights, {1.5231883119115297});
  p.desc.weights_mode = QKV_WEIGHTS_MASKED;
  expect_near(solve(p.desc).weights, {5.5231883119115297});
  p.desc.weights_mode = QKV_WEIGHTS_PROBABILITIES;
  expect_near(solve(p.desc).weights, {1});
}

// Two queries, three keys of equal score: O is the mean of the visible values 3, 6, 12.
struct Visible {
  const char* name;
  bool causal;
  qkv_alignment alignment;
  int64_t offset, left, right;
  int32_t length;  // of the keys; 3: all
  Numbers o;
};

class OracleMask : public testing::TestWithParam<Visible> {};

TEST_P(OracleMask, MeanOfVisibleValues) {
  const Visible& row = GetParam();
  SmallProblem p({.s_q = 2, .s_kv = 3});
  std::vector<int32_t> lengths{row.length};
  p.v = {3, 6, 12};
  p.desc.causal = row.causal ? 1 : 0;
  p.desc.alignment = row.alignment;
  p.desc.offset = row.offset;
  p.desc.window_left = row.left;
  p.desc.window_right = row.right;
  if (row.length < 3) p.desc.kv_lengths = contiguous(lengths, QKV_TYPE_I32, {1, 1, 1, 1});
  expect_near(solve(p.desc).o, row.o);
}

constexpr auto kBottomRight = QKV_ALIGN_BOTTOM_RIGHT, kTopLeft = QKV_ALIGN_TOP_LEFT,
               kExplicit = QKV_ALIGN_EXPLICIT;
const Visible kVisible[] = {
    {"nothing_hidden", false, kBottomRight, 0, -1, -1, 3, {7, 7}},
    // bottom-right: j <= i + 1
    {"causal_bottom_right", true, kBottomRight, 0, -1, -1, 3, {4.5, 7}},
    {"causal_top_left", true, kTopLeft, 0, -1, -1, 3, {3, 4.5}},
    {"causal_offset_minus_one", true, kExplicit, -1, -1, -1, 3, {0, 3}},
    {"causal_far", true, kExplicit, int64_t{1} << 60, -1, -1, 3, {7, 7}},
    {"causal_far_back", true, kExplicit, -(int64_t{1} << 60), -1, -1, 3, {0, 0}},
    // length 2: the offset is 2 - 2
    {"causal_length", true, kBottomRight, 0, -1, -1, 2, {3, 4.5}},
    {"length", false, kBottomRight, 0, -1, -1, 2, {4.5, 4.5}},
    {"length_zero", true, kBottomRight, 0, -1, -1, 0, {0, 0}},
    {"top_left_ignores_length", true, kTopLeft, 0, -1, -1, 2, {3, 4.5}},
    // window [i + 1 - 0, i + 1 + 0]: the diagonal alone
    {"window_of_one", false, kBottomRight, 0, 0, 0, 3, {6, 12}},
    {"window_left", false, kTopLeft, 0, 1, 0, 3, {3, 4.5}},
    {"window_right", false, kTopLeft, 0, 0, 1, 3, {4.5, 9}},
    {"window_right_unbounded", false, kTopLeft, 0, 0, -1, 3, {7, 9}},
    {"window_left_unbounded", false, kTopLeft, 0, -1, 1, 3, {4.5, 7}},
    {"causal_narrows_the_window", true, kTopLeft, 0, 0, 5, 3, {3, 6}},
    {"window_beyond_the_keys", false, kExplicit, 10, 2, 2, 3, {0, 0}},
};
INSTANTIATE_TEST_SUITE_P(Rows, OracleMask, testing::ValuesIn(kVisible),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(Oracle, MaskTensorHidesWhereFalse) {
  SmallProblem p({.s_q = 2, .s_kv = 3});
  std::vector<uint8_t> mask{1, 0, 255, 0, 0, 0};
  p.v = {3, 6, 12};
  p.desc.mask = contiguous(mask, QKV_TYPE_BOOL, {1, 1, 2, 3});
  const Result r = solve(p.desc);
  expect_near(r.o, {7.5, 0});
  expect_near(r.lse, {std::log(2.0), -kInf});
  // Broadcast over queries.
  p.desc.mask = contiguous(mask, QKV_TYPE_BOOL, {1, 1, 1, 3});
  expect_near(solve(p.desc).o, {7.5, 7.5});
  // And with the causal mask: both must allow a key.
  p.desc.causal = 1;
  expect_near(solve(p.desc).o, {3, 7.5});
}

TEST(Oracle, HeadsShareKeysAndValues) {
  SmallProblem p({.batch = 2, .heads_q = 4, .heads_kv = 2, .d_v = 1});
  p.v = {1, 2, 3, 4};  // [batch][kv head]
  expect_near(solve(p.desc).o, {1, 1, 2, 2, 3, 3, 4, 4});
}

TEST(Oracle, LengthsDifferByBatch) {
  SmallProblem p({.batch = 3, .s_kv = 2});
  std::vector<int32_t> lengths{0, 1, 2};
  p.v = {1, 3, 5, 7, 9, 11};
  p.desc.kv_lengths = contiguous(lengths, QKV_TYPE_I32, {3, 1, 1, 1});
  expect_near(solve(p.desc).o, {0, 5, 10});
}

// ONNX's four modes over a row with a hidden key (causal) and one past the length.
TEST(Oracle, WeightsInFourModes) {
  SmallProblem p({.s_q = 1, .s_kv = 4});
  std::vector<float> weights(4), bias{1, 1, 1, 1};
  std::vector<int32_t> lengths{3};
  p.q = {1};
  p.k = {0, 1, 2, 3};  // the last is past the length
  p.desc.kv_lengths = contiguous(lengths, QKV_TYPE_I32, {1, 1, 1, 1});
  p.desc.bias = contiguous(bias, QKV_TYPE_F32, {1, 1, 1, 4});
  p.desc.causal = 1;
  p.desc.alignment = QKV_ALIGN_EXPLICIT;
  p.desc.offset = 1;  // key 2 is hidden
  p.desc.softcap = 1;
  p.desc.weights = contiguous(weights, QKV_TYPE_F32, {1, 1, 1, 4});
  const double t1 = 0.7615941559557649, t2 = 0.9640275800758169, t3 = 0.9950547536867305;  // tanh
  p.desc.weights_mode = QKV_WEIGHTS_SCORES;
  expect_near(solve(p.desc).weights, {0, 1, 2, 3});
  p.desc.weights_mode = QKV_WEIGHTS_SOFTCAPPED;
  expect_near(solve(p.desc).weights, {0, t1, t2, t3});
  p.k[3] = kNaN;  // whatever it is, the later stages do not see it
  p.desc.weights_mode = QKV_WEIGHTS_MASKED;
  expect_near(solve(p.desc).weights, {1, 1 + t1, -kInf, -kInf});
  p.desc.weights_mode = QKV_WEIGHTS_PROBABILITIES;
  const double e1 = 2.14168768474935;  // exp(tanh(1))
  expect_near(solve(p.desc).weights, {1 / (1 + e1), e1 / (1 + e1), 0, 0});
  expect_near(solve(p.desc).lse, {1 + std::log(1 + e1)});
}

// One query over scores k (q = 1), values 3, 6, 12, hard selection.
struct Hard {
  const char* name;
  std::vector<float> k;
  int64_t index;
  double o, lse;
};

class OracleHard : public testing::TestWithParam<Hard> {};

TEST_P(OracleHard, PicksTheBest) {
  const Hard& row = GetParam();
  SmallProblem p({.s_kv = 3});
  std::vector<int64_t> index(1);
  p.q = {1};
  p.k = row.k;
  p.desc.k.data = p.k.data();
  p.v = {3, 6, 12};
  p.desc.v.data = p.v.data();
  p.desc.selection = QKV_SELECT_HARD;
  p.desc.index = contiguous(index, QKV_TYPE_I64, {1, 1, 1, 1});
  const Result r = solve(p.desc);
  EXPECT_EQ(r.index, std::vector<int64_t>{row.index});
  expect_near(r.o, {row.o});
  expect_near(r.lse, {row.lse});
  Numbers one_hot(3, 0);
  if (row.index >= 0) one_hot[static_cast<size_t>(row.index)] = 1;
  expect_near(r.weights, one_hot);
}

const Hard kHard[] = {
    {"largest", {1, 5, 2}, 1, 6, 5},
    {"lowest_index_wins_ties", {2, 5, 5}, 1, 6, 5},
    {"zeros_of_both_signs_tie", {-0.0f, 0.0f, -1}, 0, 3, 0},
    {"nan_beats_numbers", {1, kNaN, 9}, 1, 6, kNaN},
    {"first_nan_wins", {kNaN, kNaN, kInfF}, 0, 3, kNaN},
    {"nan_beats_infinity", {kInfF, 1, kNaN}, 2, 12, kNaN},
    {"infinity", {1, 2, kInfF}, 2, 12, kInf},
    {"minus_infinity_never_wins", {-kInfF, -kInfF, -kInfF}, -1, 0, -kInf},
    {"anything_beats_minus_infinity", {-kInfF, -3e38f, -kInfF}, 1, 6, -3e38f},
};
INSTANTIATE_TEST_SUITE_P(Rows, OracleHard, testing::ValuesIn(kHard),
                         [](const auto& row) { return std::string(row.param.name); });

// The same, the two best of four; values 3, 6, 12, 24.
struct Top {
  const char* name;
  std::vector<float> k;
  std::vector<int64_t> index;
  double o, lse;
};

class OracleTop : public testing::TestWithParam<Top> {};

TEST_P(OracleTop, MixesTheBestTwo) {
  const Top& row = GetParam();
  SmallProblem p({.s_kv = 4});
  p.q = {1};
  p.k = row.k;
  p.desc.k.data = p.k.data();
  p.v = {3, 6, 12, 24};
  p.desc.v.data = p.v.data();
  p.desc.selection = QKV_SELECT_TOP_K;
  p.desc.top_k = 2;
  const Result r = solve(p.desc);
  EXPECT_EQ(r.top, row.index);
  expect_near(r.o, {row.o});
  expect_near(r.lse, {row.lse});
  for (size_t n = 0; n < 2; ++n) {
    const double want = row.index[n] < 0 ? -kInf : row.k[static_cast<size_t>(row.index[n])];
    expect_near({r.top_scores[n]}, {want});
  }
  for (int64_t j = 0; j < 4; ++j)
    EXPECT_EQ(r.weights[static_cast<size_t>(j)] != 0, j == row.index[0] || j == row.index[1]) << j;
}

const Top kTop[] = {
    {"order", {1, 5, 2, 5}, {1, 3}, 15, 5 + std::log(2.0)},
    {"mixture", {0, 1, -7, -7}, {1, 0}, (6 * kE + 3) / (kE + 1), std::log(kE + 1)},
    {"lowest_index_wins_ties", {2, 2, 2, 2}, {0, 1}, 4.5, 2 + std::log(2.0)},
    {"nan_beats_numbers", {1, kNaN, 9, 3}, {1, 2}, kNaN, kNaN},
    {"first_nans_win", {kNaN, kInfF, kNaN, kNaN}, {0, 2}, kNaN, kNaN},
    {"infinity", {1, 2, kInfF, 0}, {2, 1}, kNaN, kNaN},
    {"minus_infinity_never_wins", {-kInfF, -kInfF, -kInfF, -kInfF}, {-1, -1}, 0, -kInf},
    {"fewer_than_two", {-kInfF, 7, -kInfF, -kInfF}, {1, -1}, 6, 7},
};
INSTANTIATE_TEST_SUITE_P(Rows, OracleTop, testing::ValuesIn(kTop),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(Oracle, ScoresOfMinusInfinityMakeAnEmptyRow) {
  SmallProblem p({.s_kv = 2});
  std::vector<float> bias{-kInfF, -kInfF};
  p.v = {3, 6};
  p.desc.bias = contiguous(bias, QKV_TYPE_F32, {1, 1, 1, 2});
  const Result r = solve(p.desc);
  expect_near(r.o, {0});
  expect_near(r.lse, {-kInf});
  expect_near(r.weights, {0, 0});
  EXPECT_EQ(r.index, std::vector<int64_t>{-1});
}

TEST(Oracle, NoKeysAtAll) {
  SmallProblem p({.s_q = 2, .s_kv = 0});
  const Result r = solve(p.desc);
  expect_near(r.o, {0, 0});
  expect_near(r.lse, {-kInf, -kInf});
}

TEST(Oracle, NaNAndInfinityPropagate) {
  SmallProblem p({.s_q = 2, .s_kv = 2, .d_v = 2});
  p.q = {0, kNaN};  // a NaN query poisons its own row
  p.k = {1, 1};
  p.v = {1, 2, 3, 4};
  Result r = solve(p.desc);
  expect_near(r.o, {2, 3, kNaN, kNaN});
  expect_near(r.lse, {std::log(2.0), kNaN});
  p.q = {0, 0};
  p.v = {1, kNaN, 3, 4};  // a NaN value poisons its own column
  expect_near(solve(p.desc).o, {2, kNaN, 2, kNaN});
  p.v = {1, kInfF, 3, 4};
  expect_near(solve(p.desc).o, {2, kInf, 2, kInf});
  p.v = {1, kInfF, 3, -kInfF};
  expect_near(solve(p.desc).o, {2, kNaN, 2, kNaN});
  // A score of +inf: exp(inf - inf) is NaN.
  p.q = {1, 1};
  p.k = {kInfF, 0};
  p.v = {1, 2, 3, 4};
  r = solve(p.desc);
  expect_near(r.o, {kNaN, kNaN, kNaN, kNaN});
  // A hidden NaN does nothing.
  std::vector<uint8_t> mask{0, 1};
  p.k = {kNaN, 0};
  p.v = {kNaN, kNaN, 3, 4};
  p.desc.mask = contiguous(mask, QKV_TYPE_BOOL, {1, 1, 1, 2});
  expect_near(solve(p.desc).o, {3, 4, 3, 4});
}

// The textbook algorithm in bf16: p = exp(-1) = 0.367879 is 188.35 of the 2^-9 that bf16 counts in
// there, hence 188 / 512 = 0.3671875; the sum of weights is not rounded: 1.367879; O = 0.268435 is
// 137.44 / 512, hence 137 / 512.
TEST(Oracle, InputPrecisionRoundsProbabilitiesAndOutput) {
  SmallProblem p({.s_kv = 2});
  const auto bf16 = [](float x) { return host::from_float<host::Bfloat>(x).bits; };
  std::vector<uint16_t> q{bf16(1)}, k{bf16(0), bf16(-1)}, v{bf16(0), bf16(1)}, o(1);
  p.desc.q = contiguous(q, QKV_TYPE_BF16, {1, 1, 1, 1});
  p.desc.k = contiguous(k, QKV_TYPE_BF16, {1, 1, 2, 1});
  p.desc.v = contiguous(v, QKV_TYPE_BF16, {1, 1, 2, 1});
  p.desc.o = contiguous(o, QKV_TYPE_BF16, {1, 1, 1, 1});
  expect_near(solve(p.desc, Precision::kInput).o, {137.0 / 512});
  expect_near(solve(p.desc, Precision::kDouble).o, {1 / (1 + kE)});
}

// The same in fp16, which counts in 2^-12 there: 1506.83 -> 1507 / 4096, O = 0.268967 is 1101.69 of
// 2^-12, hence 1102 / 4096.
TEST(Oracle, InputPrecisionOfHalf) {
  SmallProblem p({.s_kv = 2});
  const auto f16 = [](float x) { return host::from_float<host::Half>(x).bits; };
  std::vector<uint16_t> q{f16(1)}, k{f16(0), f16(-1)}, v{f16(0), f16(1)}, o(1);
  p.desc.q = contiguous(q, QKV_TYPE_F16, {1, 1, 1, 1});
  p.desc.k = contiguous(k, QKV_TYPE_F16, {1, 1, 2, 1});
  p.desc.v = contiguous(v, QKV_TYPE_F16, {1, 1, 2, 1});
  p.desc.o = contiguous(o, QKV_TYPE_F16, {1, 1, 1, 1});
  expect_near(solve(p.desc, Precision::kInput).o, {1102.0 / 4096});
}

TEST(Oracle, ReadsStrides) {
  SmallProblem p({.s_q = 1, .s_kv = 2, .d_qk = 1, .d_v = 1});
  std::vector<float> v{3, 99, 5};
  p.desc.v = contiguous(v, QKV_TYPE_F32, {1, 1, 2, 1});
  p.desc.v.stride[2] = 2;
  expect_near(solve(p.desc).o, {4});
  p.desc.v.stride[2] = 0;  // both keys have the value 3
  expect_near(solve(p.desc).o, {3});
}

}  // namespace
}  // namespace qkv::test
