// No input costs the CPU backend more than others of its shape do. Arithmetic on subnormal numbers
// is up to a hundred times slower; weights far below a row's best must not become such.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>

#include "tests/support/slow_build.h"
#include "tests/support/verify.h"

namespace qkv::test {
namespace {

constexpr double kMost = 1.3;  // times the plain input's

struct Input {
  const char* name;
  std::function<void(const BuiltProblem&)> change;  // of a plain problem, whose bias is 0
};

void fill_bias(const BuiltProblem& built, const std::function<double(int64_t key)>& value) {
  built[kBias].each(
      [&](int64_t b, int64_t h, int64_t i, int64_t j) { built[kBias].set(b, h, i, j, value(j)); });
}

const Input kInputs[] = {
    {"padding of -100",
     [](const auto& p) { fill_bias(p, [](auto j) { return j < 90 ? 0 : -100; }); }},
    {"padding of -1e9",
     [](const auto& p) { fill_bias(p, [](auto j) { return j < 90 ? 0 : -1e9; }); }},
    {"one key above all by 80 to 104",
     [](const auto& p) {
       fill_bias(p, [](auto j) { return j == 300 ? 0 : -80 - static_cast<double>(j) * 24 / 512; });
     }},
    {"a slope",
     [](const auto& p) { fill_bias(p, [](auto j) { return -0.5 * static_cast<double>(j); }); }},
    {"wide scores",
     [](const auto& p) {
       p.q.each(
           [&](auto b, auto h, auto i, auto d) { p.q.set(b, h, i, d, 40 * p.q.get(b, h, i, d)); });
     }},
};

// Microseconds of the best of interleaved runs: what else the machine does makes them slower, not
// faster.
std::array<double, 2> best_of(BuiltProblem& first, BuiltProblem& second) {
  first.upload();
  second.upload();
  std::array<double, 2> best{};
  best.fill(std::numeric_limits<double>::infinity());
  for (int run = 0; run < 25; ++run) {
    for (size_t n = 0; n < 2; ++n) {
      qkv_attention_desc desc = (n == 0 ? first : second).desc();
      desc.flags |= QKV_FLAG_ALLOW_ALLOCATION;
      desc.threads = 1;
      const auto start = std::chrono::steady_clock::now();
      EXPECT_EQ(qkv_attention(&desc, nullptr), QKV_SUCCESS) << qkv_last_error();
      const std::chrono::duration<double, std::micro> took =
          std::chrono::steady_clock::now() - start;
      best[n] = std::min(best[n], took.count());
    }
  }
  return best;
}

class InputCost : public testing::TestWithParam<qkv_type> {};
INSTANTIATE_TEST_SUITE_P(Types, InputCost,
                         testing::Values(QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16),
                         [](const auto& row) { return std::string(type_label(row.param)); });

TEST_P(InputCost, T30_IsThatOfTheShape) {
  if (kSlowBuild) GTEST_SKIP() << "no figures from a debug or sanitizer build";
  Case row{.name = "cost", .type = GetParam(), .batch = 1, .s_q = 128, .s_kv = 512};
  row.dims(64, 64).inputs[kBias] = {.axes = kKeys, .f32 = true};
  for (const Input& input : kInputs) {
    BuiltProblem plain(row, {.seed = test_seed()}), hard(row, {.seed = test_seed()});
    for (BuiltProblem* built : {&plain, &hard}) fill_bias(*built, [](auto) { return 0; });
    input.change(hard);
    const auto best = best_of(plain, hard);
    std::printf("%s, %s: %.0f us, plain %.0f us\n", type_label(GetParam()), input.name, best[1],
                best[0]);
    EXPECT_LE(best[1], kMost * best[0]) << input.name;
  }
}

// A mask that hides half of the keys costs what their number costs where the lengths say the same.
TEST_P(InputCost, T30_OfAMaskIsThatOfWhatItLeaves) {
  if (kSlowBuild) GTEST_SKIP() << "no figures from a debug or sanitizer build";
  Case row{.name = "cost", .type = GetParam(), .batch = 1, .s_q = 64, .s_kv = 1024};
  row.heads(1, 1).dims(64, 64).layout = Layout::kBhsd;
  Case half = row, masked = row;
  half.lengths = {512};
  masked.inputs[kMask] = {.axes = kQueries | kKeys};
  BuiltProblem plain(half, {.seed = test_seed()}), hidden(masked, {.seed = test_seed()});
  hidden[kMask].each([&](int64_t b, int64_t h, int64_t i, int64_t j) {
    hidden[kMask].set(b, h, i, j, j < 512 ? 1 : 0);
  });
  const auto best = best_of(plain, hidden);
  std::printf("%s, half of the keys: %.0f us by a mask, %.0f us by lengths\n",
              type_label(GetParam()), best[1], best[0]);
  EXPECT_LE(best[1], kMost * best[0]);
}

}  // namespace
}  // namespace qkv::test
