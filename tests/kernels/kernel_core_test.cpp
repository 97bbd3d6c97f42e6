// Pieces that kernels share, through their host paths: the state of an online softmax, the keys
// that a tile of queries sees, the list of instances.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/attention/simt_forward/policy.h"
#include "kernels/attention/sm80_forward/policy.h"
#include "kernels/attention/sm80_hard/policy.h"
#include "kernels/attention/sm80_tf32x3_hard/policy.h"
#include "kernels/attention/sm80_top_k/policy.h"
#include "kernels/attention/sm90_hard/policy.h"
#include "kernels/core/best_key.h"
#include "kernels/core/grid.h"
#include "kernels/core/mask.h"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/ranked_key.h"
#include "kernels/core/top_k_args.h"
#include "tests/support/elements.h"

namespace qkv::test {
namespace {

using kernels::KeyMask;
using OnlineSoftmax = kernels::OnlineSoftmax<>;

constexpr float kInfF = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// With a factor of 1 scores are exponents of 2.
template <int kCarry>
void add(kernels::OnlineSoftmax<kCarry>* state, const std::vector<float>& scores,
         float factor = 1) {
  state->raise(*std::max_element(scores.begin(), scores.end()), factor);
  for (float s : scores) state->l += state->weight(s, factor);
}

TEST(OnlineSoftmax, IsEmptyAtFirst) {
  const OnlineSoftmax state;
  EXPECT_TRUE(state.empty());
  EXPECT_EQ(state.lse(1), -kInfF);
}

TEST(OnlineSoftmax, OfOneScore) {
  OnlineSoftmax state;
  add(&state, {5});
  EXPECT_EQ(state.m, 5);
  EXPECT_EQ(state.l, 1);
  EXPECT_EQ(state.weight(5, 1), 1);
  EXPECT_NEAR(state.lse(1), 5 * std::log(2.0), 1e-6);
}

TEST(OnlineSoftmax, KeepsNothingOfHiddenKeys) {
  OnlineSoftmax state;
  add(&state, {-kInfF, -kInfF});
  EXPECT_TRUE(state.empty());
  EXPECT_EQ(state.lse(1), -kInfF);
  add(&state, {-kInfF, 3});
  EXPECT_EQ(state.l, 1);
  EXPECT_EQ(state.weight(-kInfF, 1), 0);
}

TEST(OnlineSoftmax, NaNStays) {
  for (float bad : {kNaN, kInfF}) {
    OnlineSoftmax state;
    add(&state, {1, 2});
    state.raise(bad, 1);
    state.l += state.weight(bad, 1);
    add(&state, {7});
    EXPECT_TRUE(std::isnan(state.l)) << bad;
    EXPECT_TRUE(std::isnan(state.lse(1))) << bad;
    EXPECT_FALSE(state.empty()) << bad;
  }
}

// Pieces in any cut, and merged from any split, give the sum of all.
TEST(OnlineSoftmax, PiecesAddUp) {
  Random random(1);
  for (int round = 0; round < 1000; ++round) {
    OnlineSoftmax whole, left, right;
    double best = -kInf, sum = 0;
    std::vector<float> scores;
    for (int n = 0; n < 40; ++n) {
      const auto s = static_cast<float>(random.uniform() < 0.1 ? -kInf : 30 * random.normal());
      scores.push_back(s);
      best = std::max<double>(best, s);
    }
    for (float s : scores) sum += std::exp2(s - best);
    const auto cut = static_cast<size_t>(random.integer(1, 39));
    for (size_t first = 0; first < scores.size();) {
      const size_t last = std::min(scores.size(), first + 1 + random.bits() % 8);
      add(&whole, {scores.begin() + static_cast<ptrdiff_t>(first),
                   scores.begin() + static_cast<ptrdiff_t>(last)});
      first = last;
    }
    const auto middle = scores.begin() + static_cast<ptrdiff_t>(cut);
    add(&left, {scores.begin(), middle});
    add(&right, {middle, scores.end()});
    for (const OnlineSoftmax& state : {whole, merge(left, right, 1), merge(right, left, 1)}) {
      EXPECT_EQ(state.m, static_cast<float>(best));
      EXPECT_NEAR(state.l, sum, 40 * 0x1p-23 * sum);
    }
  }
}

TEST(OnlineSoftmax, MergeWithNothingChangesNothing) {
  OnlineSoftmax some;
  add(&some, {1, 4, 2});
  for (const OnlineSoftmax& state : {merge(some, {}, 1), merge({}, some, 1)}) {
    EXPECT_EQ(state.m, some.m);
    EXPECT_EQ(state.l, some.l);
  }
  EXPECT_TRUE(merge(OnlineSoftmax(), OnlineSoftmax(), 1).empty());
}

// Scores of any size: the best key weighs 2^carry to the last bit, an equal one as much, one that
// is 1 below 1/e of it, and the LSE is that of these three.
TEST(OnlineSoftmax, ScoresOfAnySize) {
  for (double size = 1; size < 2.4e38; size *= 10) {
    for (double sign : {-1.0, 1.0}) {
      const auto best = static_cast<float>(sign * size);
      const float below = best - 1 == best ? -kInfF : best - 1;
      kernels::OnlineSoftmax<15> state;
      add(&state, {below, best}, kernels::kLog2E);
      add(&state, {best}, kernels::kLog2E);
      EXPECT_EQ(state.weight(best, kernels::kLog2E), 0x1p15f) << best;
      const double weights = 2 + (std::isinf(below) ? 0 : std::exp(-1));
      EXPECT_NEAR(state.l, 0x1p15 * weights, 0x1p15 * 1e-6) << best;
      EXPECT_NEAR(state.lse(kernels::kLog2E), best + std::log(weights), 1e-6 * (1 + size)) << best;
    }
  }
}

// T9: lengths beyond 32 bits are clamped as others are, and batches are as far apart as told.
TEST(KeyMask, T9_ClampsLengthsOf64Bits) {
  const std::vector<int64_t> lengths{INT64_MIN, -1, 0, 7, 8, (int64_t{1} << 32) + 3, INT64_MAX};
  kernels::ForwardArgs args;
  args.s_kv = 8;
  args.kv_lengths = lengths.data();
  args.kv_lengths_i64 = true;
  args.kv_lengths_stride = 1;
  std::vector<int32_t> read;
  for (int32_t b = 0; b < 7; ++b) read.push_back(kernels::key_length(args, b));
  EXPECT_EQ(read, (std::vector<int32_t>{0, 0, 0, 7, 8, 8, 8}));
}

// Against the rule of qkv.h, key by key, in 128-bit arithmetic.
TEST(KeyMask, FollowsTheContract) {
  Random random(2);
  constexpr int64_t kUnbounded = int64_t{1} << 61;
  const int64_t far[] = {-kUnbounded,      -(int64_t{1} << 60), -(int64_t{1} << 31),
                         int64_t{1} << 31, int64_t{1} << 60,    kUnbounded};
  for (int round = 0; round < 20000; ++round) {
    kernels::ForwardArgs args;
    args.s_q = static_cast<int32_t>(random.integer(1, 40));
    args.s_kv = static_cast<int32_t>(random.integer(0, 40));
    args.batch = 1;
    const int64_t given = random.integer(-3, 50);
    const auto short_given = static_cast<int32_t>(given);
    args.kv_lengths_i64 = random.bits() % 2 == 0;
    if (random.bits() % 2 == 0)
      args.kv_lengths = args.kv_lengths_i64 ? static_cast<const void*>(&given) : &short_given;
    args.bottom_right = random.bits() % 2 == 0;
    const auto bound = [&](int64_t low) {
      const int64_t x = random.bits() % 4 == 0 ? far[random.bits() % 6] : random.integer(-60, 60);
      return std::max(x, low);
    };
    args.offset = bound(-kUnbounded);
    args.left = bound(0);
    args.right = bound(0);
    const int32_t length =
        args.kv_lengths == nullptr ? args.s_kv : std::clamp(short_given, 0, args.s_kv);
    const KeyMask mask = kernels::key_mask(args, 0);
    EXPECT_EQ(mask.length, length);
    const Wide offset = args.bottom_right ? length - args.s_q : args.offset;
    const auto sees = [&](int32_t i, int32_t j) {
      return j < length && j >= i + offset - args.left && j <= i + offset + args.right;
    };
    const auto i0 = static_cast<int32_t>(random.integer(0, args.s_q - 1));
    const auto rows = static_cast<int32_t>(random.integer(1, args.s_q - i0));
    const auto any = mask.visible_keys(i0, rows), all = mask.unmasked_keys(i0, rows);
    for (int32_t j = 0; j < args.s_kv; ++j) {
      bool some = false, every = true;
      for (int32_t i = i0; i < i0 + rows; ++i) {
        const auto range = mask.keys(i);
        const bool in_range = j >= range.begin && j < range.end;
        ASSERT_EQ(in_range, sees(i, j)) << "query " << i << ", key " << j;
        some = some || in_range;
        every = every && in_range;
      }
      ASSERT_LE(some, j >= any.begin && j < any.end);
      ASSERT_EQ(every, j >= all.begin && j < all.end);
    }
  }
}

TEST(Policy, EveryWidthHasAnInstanceInEveryType) {
  std::set<std::pair<std::string, int>> listed, wanted;
#define QKV_SIMT_FORWARD(type, max_dim) listed.insert({#type, max_dim});
#include "kernels/kernels.inc"
  for (int32_t d = 1; d <= kernels::kSimtForwardMaxDim; ++d) {
    const auto policy = kernels::simt_forward_policy(d);
    EXPECT_GE(policy.max_dim, d);
    for (const char* type : {"F32", "F16", "BF16"}) wanted.insert({type, policy.max_dim});
  }
  EXPECT_EQ(listed, wanted);
  EXPECT_EQ(kernels::simt_forward_policy(kernels::kSimtForwardMaxDim + 1).max_dim, 0);
}

TEST(Policy, Sm80HasAnInstanceForEveryWidthAndVariant) {
  using kernels::Sm80Variant;
  std::set<std::tuple<std::string, int, Sm80Variant>> listed, wanted;
#define QKV_SM80_FORWARD(type, max_dim, variant) \
  listed.insert({#type, max_dim, Sm80Variant::k##variant});
#include "kernels/kernels.inc"
  for (const auto variant : {Sm80Variant::kTall, Sm80Variant::kShort, Sm80Variant::kRules}) {
    for (int32_t d = 1; d <= kernels::kSm80ForwardMaxDim; ++d) {
      const auto policy = kernels::sm80_forward_policy(d, variant);
      if (variant == Sm80Variant::kShort && d > 128) {
        EXPECT_EQ(policy.max_dim, 0);
        continue;
      }
      EXPECT_GE(policy.max_dim, d);
      EXPECT_LE(kernels::sm80_forward_smem_bytes(policy), size_t{99} << 10)
          << "sm_86, sm_89, sm_120";
      for (const char* type : {"F16", "BF16"}) wanted.insert({type, policy.max_dim, variant});
    }
  }
  EXPECT_EQ(listed, wanted);
}

TEST(Policy, Sm80HardHasAnInstanceForEveryWidth) {
  std::set<std::tuple<std::string, int, bool>> listed, wanted;
#define QKV_SM80_HARD(type, max_dim, rules) listed.insert({#type, max_dim, rules});
#include "kernels/kernels.inc"
  for (const bool rules : {false, true}) {
    for (int32_t d = 1; d <= kernels::kSm80HardMaxDim; ++d) {
      const auto policy = kernels::sm80_hard_policy(d, rules);
      EXPECT_GE(policy.max_dim, d);
      EXPECT_LE(kernels::sm80_hard_smem_bytes(policy), size_t{99} << 10) << "sm_86, sm_89, sm_120";
      for (const char* type : {"F16", "BF16"}) wanted.insert({type, policy.max_dim, rules});
    }
  }
  EXPECT_EQ(listed, wanted);
  EXPECT_EQ(kernels::sm80_hard_policy(kernels::kSm80HardMaxDim + 1, false).max_dim, 0);
}

TEST(Policy, Sm80Tf32x3HardHasAnInstanceForEveryWidth) {
  std::set<std::pair<int, bool>> listed, wanted;
#define QKV_SM80_TF32X3_HARD(max_dim, rules) listed.insert({max_dim, rules});
#include "kernels/kernels.inc"
  for (const bool rules : {false, true}) {
    for (int32_t d = 1; d <= kernels::kSm80Tf32x3HardMaxDim; ++d) {
      const auto policy = kernels::sm80_tf32x3_hard_policy(d, rules);
      EXPECT_GE(policy.max_dim, d);
      EXPECT_LE(kernels::sm80_tf32x3_hard_smem_bytes(policy), size_t{163} << 10) << "sm_80";
      wanted.insert({policy.max_dim, rules});
    }
  }
  EXPECT_EQ(listed, wanted);
  EXPECT_EQ(kernels::sm80_tf32x3_hard_policy(kernels::kSm80Tf32x3HardMaxDim + 1, false).max_dim, 0);
}

TEST(Policy, Sm90HardHasAnInstanceForEveryWidth) {
  std::set<std::pair<std::string, int>> listed, wanted;
#define QKV_SM90_HARD(type, dim) listed.insert({#type, dim});
#include "kernels/kernels.inc"
  for (int32_t d = 1; d <= kernels::kSm90HardMaxDim; ++d) {
    const kernels::Sm90HardShape* shape = kernels::sm90_hard_shape(d);
    ASSERT_NE(shape, nullptr);
    EXPECT_GE(shape->dim, d);
    EXPECT_LE(shape->smem_bytes(), 227 << 10);
    for (const char* type : {"F16", "BF16"}) wanted.insert({type, shape->dim});
  }
  EXPECT_EQ(listed, wanted);
  EXPECT_EQ(kernels::sm90_hard_shape(kernels::kSm90HardMaxDim + 1), nullptr);
}

TEST(Policy, Sm80TopKHasAnInstanceForEveryWidth) {
  std::set<std::tuple<std::string, int, bool>> listed, wanted;
#define QKV_SM80_TOP_K(type, max_dim, rules) listed.insert({#type, max_dim, rules});
#include "kernels/kernels.inc"
  for (const bool rules : {false, true}) {
    for (int32_t d = 1; d <= kernels::kSm80TopKMaxDim; ++d) {
      const auto policy = kernels::sm80_top_k_policy(d, rules);
      EXPECT_GE(policy.max_dim, d);
      for (const char* type : {"F16", "BF16"}) wanted.insert({type, policy.max_dim, rules});
      // Ten keys everywhere, as many as there may be on an A100.
      const auto smem = [&](int32_t k) { return kernels::sm80_top_k_smem_bytes(policy, k); };
      EXPECT_LE(smem(10), 99 << 10) << "sm_86, sm_89, sm_120";
      if (rules) {
        EXPECT_LE(smem(kernels::kMaxTopK), 163 << 10) << "sm_80";
      }
    }
  }
  EXPECT_EQ(listed, wanted);
  EXPECT_EQ(kernels::sm80_top_k_policy(kernels::kSm80TopKMaxDim + 1, false).max_dim, 0);
}

// What lists of the best keys are in order of.
TEST(RankedKey, OrdersByScoreThenByKey) {
  using kernels::ranked_key;
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const struct {
    float score;
    int32_t key;
  } order[] = {{nan, 0},    {-nan, 9}, {inf, INT32_MAX - 1}, {3e38f, 1}, {2, 8},
               {1e-45f, 4}, {0.0f, 1}, {-0.0f, 2},           {0.0f, 3},  {-1e-45f, 0},
               {-1, 3},     {-1, 5},   {-3e38f, 1},          {-inf, 7}};
  for (size_t n = 0; n < std::size(order); ++n) {
    const auto rank = ranked_key(order[n].score, order[n].key);
    EXPECT_GT(rank, kernels::RankedKey{0});
    if (n > 0) {
      EXPECT_LT(rank, ranked_key(order[n - 1].score, order[n - 1].key)) << n;
    }
    EXPECT_EQ(kernels::key_of(rank), order[n].key);
    EXPECT_TRUE(kernels::score_of(rank) == order[n].score || std::isnan(order[n].score)) << n;
    EXPECT_EQ(std::isnan(kernels::score_of(rank)), std::isnan(order[n].score)) << n;
  }
  EXPECT_EQ(kernels::score_of(0), -inf);
  EXPECT_EQ(kernels::key_of(0), -1);
}

// What the parts of hard selection are merged by.
TEST(BestKey, BeatsByScoreThenByKey) {
  using kernels::BestKey;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const BestKey none{-inf, kernels::kNoKey};
  // Best first.
  const BestKey order[] = {{nan, 4}, {nan, 9}, {inf, 1}, {2, 8}, {-1, 3}, {-1, 5}, none};
  for (const BestKey& better : order) {
    for (const BestKey* worse = &better; worse != std::end(order); ++worse) {
      EXPECT_EQ(better_of(better, *worse).key, better.key);
      EXPECT_EQ(better_of(*worse, better).key, better.key);
    }
  }
  EXPECT_FALSE(kernels::beats(-inf, -inf));
}

// The table in policy.h.
TEST(Policy, Sm80BlocksOnAMultiprocessorBySharedMemory) {
  using kernels::Sm80Variant;
  struct Row {
    int32_t dim;
    Sm80Variant variant;
    size_t kib, of_164, of_100;
  };
  for (const Row& row : {Row{64, Sm80Variant::kTall, 48, 3, 2},
                         {64, Sm80Variant::kShort, 24, 6, 4},
                         {128, Sm80Variant::kTall, 80, 2, 1},
                         {128, Sm80Variant::kShort, 48, 3, 2},
                         {256, Sm80Variant::kTall, 96, 1, 1}}) {
    const size_t kib =
        kernels::sm80_forward_smem_bytes(kernels::sm80_forward_policy(row.dim, row.variant)) / 1024;
    EXPECT_EQ(kib, row.kib);
    EXPECT_EQ(164 / (kib + 1), row.of_164);
    EXPECT_EQ(100 / (kib + 1), row.of_100);
  }
}

TEST(Policy, GridCoversEveryQueryOnce) {
  const auto policy = kernels::simt_forward_policy(64);
  EXPECT_EQ(kernels::grid_blocks(policy.tile_q, 1, 2, 3, policy.tile_q), 6);
  EXPECT_EQ(kernels::grid_blocks(policy.tile_q, 1, 2, 3, policy.tile_q + 1), 12);
  EXPECT_EQ(kernels::grid_blocks(policy.tile_q, 1, 1, 1, 1), 1);
  EXPECT_EQ(kernels::grid_blocks(policy.tile_q, 1, 0, 1, 1), 0);
  constexpr int32_t kLargest = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(kernels::grid_blocks(policy.tile_q, 1, kLargest, kLargest, kLargest),
            kernels::kMaxBlocks + 1);
  EXPECT_EQ(kernels::grid_blocks(policy.tile_q, 1, kLargest, 1, 1), kernels::kMaxBlocks);
}

}  // namespace
}  // namespace qkv::test
