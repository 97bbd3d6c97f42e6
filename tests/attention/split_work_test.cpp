// What packed and split launches do, counted by the virtual GPU: splits add no tensor FLOPs and no
// exponentials, heads packed into a tile read K and V once, and partial results are written and
// read once. (counted_work_test does the same for launches without splits.)
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "host/core/plan.h"
#include "kernels/attention/sm80_forward/policy.h"
#include "tests/support/counted_launches.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/plans.h"
#include "tests/support/verify.h"

namespace qkv::test {
namespace {

struct Work {
  double flops = 0, exponentials = 0, loaded = 0, stored = 0;
  double combine_loaded = 0, combine_stored = 0;
};

// One visit of each (tile of rows, key block) with a visible pair, found pair by pair. A split
// changes nothing but that Q is read by each that has keys, and its rows' results are written and
// read in fp32; packed heads read K and V together.
Work minimal_work(const Case& row, const kernels::TileSchedule& cut, int32_t max_dim) {
  Work work;
  const int64_t group = cut.group.divisor, rows_of_set = row.s_q * group;
  const auto sees = [&](int64_t b, int64_t first, int64_t rows, int64_t j0, int64_t j1) {
    for (int64_t r = first; r < first + rows; ++r)
      for (int64_t j = j0; j < j1; ++j)
        if (row.in_pattern(b, r / group, j)) return true;
    return false;
  };
  const double parts = 4 * static_cast<double>(row.d_v);
  for (int64_t b = 0; b < row.batch; ++b) {
    for (int64_t first = 0; first < rows_of_set; first += cut.tile_q) {
      const int64_t rows = std::min<int64_t>(cut.tile_q, rows_of_set - first);
      for (int32_t split = 0; split < cut.splits; ++split) {
        bool any = false;
        for (int64_t j0 = 0; j0 < row.s_kv; j0 += cut.tile_kv) {
          if (j0 / cut.split_keys != split) continue;
          const int64_t j1 = std::min(j0 + cut.tile_kv, row.s_kv);
          if (!sees(b, first, rows, j0, j1)) continue;
          any = true;
          const double scores = static_cast<double>(cut.tile_q) * cut.tile_kv;
          work.flops += 2 * 2 * scores * max_dim;
          // One for each score, and one for each of the four lanes that share a row: its rescale.
          work.exponentials += scores + 4.0 * cut.tile_q;
          const int64_t keys = std::min<int64_t>(cut.tile_kv, row.length(b) - j0);
          work.loaded += 2.0 * static_cast<double>(keys * (row.d_qk + row.d_v));
        }
        if (any) work.loaded += 2.0 * static_cast<double>(rows * row.d_qk);
        for (int64_t r = first; r < first + rows; ++r) {
          const int64_t j0 = int64_t{split} * cut.split_keys;
          const int64_t j1 = std::min(j0 + cut.split_keys, row.s_kv);
          const double o = any && sees(b, r, 1, j0, j1) ? parts : 0;
          work.stored += o + sizeof(kernels::SplitLse);
          work.combine_loaded += o + sizeof(kernels::SplitLse);
        }
      }
      work.combine_stored += static_cast<double>(rows) * static_cast<double>(2 * row.d_v + 4);
    }
  }
  const auto sets = static_cast<double>(cut.heads);
  return {work.flops * sets,  work.exponentials * sets,   work.loaded * sets,
          work.stored * sets, work.combine_loaded * sets, work.combine_stored * sets};
}

class SplitWork : public testing::TestWithParam<Case> {};

TEST_P(SplitWork, IsTheMinimalCover) {
  const Case& row = GetParam();
  host::DeviceInfo device = fake_device(80);
  host::attention::Problem problem = BuiltProblem(row, {}).oracle_problem();
  problem.device = QKV_DEVICE_CUDA;
  host::Plan plan;
  ASSERT_TRUE(make_plan(problem, device, &plan).ok());
  const bool rules = plan_variant(plan) == kernels::Sm80Variant::kRules;
  const auto policy = kernels::sm80_forward_policy(
      static_cast<int32_t>(std::max(row.d_qk, row.d_v)), plan_variant(plan));
  ASSERT_GT(plan_schedule(plan).splits, 1);
  const Work want = minimal_work(row, plan_schedule(plan), policy.max_dim);
  const nlohmann::json launches = counted_launches(row);
  int seen = 0, combined = 0;
  for (const auto& launch : launches) {
    const std::string kernel = launch.at("kernel");
    const auto& global = launch.at("global");
    if (kernel.find("combine") != std::string::npos) {
      ++combined;
      EXPECT_EQ(global.at("load_bytes").get<double>(), want.combine_loaded);
      EXPECT_EQ(global.at("store_bytes").get<double>(), want.combine_stored);
    }
    if (kernel.find("sm80_forward") == std::string::npos) continue;
    ++seen;
    const auto& flops = launch.at("flops");
    EXPECT_EQ(flops.value(row.type == QKV_TYPE_F16 ? "mma.f16" : "mma.bf16", 0.0), want.flops);
    EXPECT_EQ(launch.at("mufu").value("ex2", 0.0), want.exponentials);
    if (!rules && row.lengths.empty()) {  // else bias or lengths are read, too
      EXPECT_EQ(global.at("load_bytes").get<double>(), want.loaded);
    }
    EXPECT_EQ(global.at("store_bytes").get<double>(), want.stored);
    EXPECT_EQ(launch.at("shared").at("conflict_excess").get<double>(), 0)
        << launch.at("shared").dump();
  }
  EXPECT_EQ(seen, 2);  // the contract test runs it twice
  EXPECT_EQ(combined, 2);
}

// Packed and split, soft, with LSE; lengths are read from memory, and tanh takes exponentials of
// its own.
bool is_counted(const Case& row) {
  return row.name.rfind("splits_", 0) == 0 && row.fixed_split > 0 && row.lse &&
         row.score == QKV_SCORE_DOT && row.selection == QKV_SELECT_SOFT && row.lengths.empty() &&
         row.softcap == 0;
}

std::vector<Case> split_cases() {
  std::vector<Case> rows;
  for (const Case& row : all_cases())
    if (row.type != QKV_TYPE_F32 && is_counted(row)) rows.push_back(row);
  return rows;
}

// What the cases are for, and gpu.cmake runs them on.
TEST(TailCases, AreSplitInTheTilesThatTheyName) {
  int seen = 0;
  for (const Case& row : all_cases()) {
    if (row.name.rfind("tails_split_", 0) != 0) continue;
    host::attention::Problem problem = BuiltProblem(row, {}).oracle_problem();
    problem.device = QKV_DEVICE_CUDA;
    for (const int32_t sms : {8, 108}) {
      host::DeviceInfo device = fake_device(80);
      device.sm_count = sms;
      host::Plan plan;
      ASSERT_TRUE(make_plan(problem, device, &plan).ok());
      EXPECT_GT(plan_schedule(plan).splits, 1) << row.name << " on " << sms;
      EXPECT_EQ(plan_variant(plan),
                sms == 8 ? kernels::Sm80Variant::kShort : kernels::Sm80Variant::kTall)
          << row.name << " on " << sms;
      ++seen;
    }
  }
  EXPECT_EQ(seen, 2 * 7);
}

INSTANTIATE_TEST_SUITE_P(Sm80Forward, SplitWork, testing::ValuesIn(split_cases()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace qkv::test
