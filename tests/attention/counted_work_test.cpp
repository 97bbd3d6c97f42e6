// What a kernel does, counted by the virtual GPU, against what it must do: tensor FLOPs of the
// tiles that the mask leaves, an exponential for each score in them, operands read once for each
// tile, no bank conflicts; under hard selection Q K^T alone, and of V the chosen rows. Counts are
// exact and the same on every machine.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "host/core/plan.h"
#include "kernels/attention/sm80_additive/policy.h"
#include "kernels/attention/sm80_forward/policy.h"
#include "kernels/attention/sm80_hard/policy.h"
#include "kernels/attention/sm80_tf32x3/policy.h"
#include "kernels/attention/sm80_tf32x3_hard/policy.h"
#include "kernels/attention/sm80_top_k/policy.h"
#include "tests/support/counted_launches.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/plans.h"
#include "tests/support/verify.h"

namespace qkv::test {
namespace {

struct Work {
  std::map<std::string, double> flops;  // by instruction
  double exponentials = 0, loaded = 0;
  double sines = 0, cosines = 0;  // of additive scores: one each for a row's or key's dim

  bool operator==(const Work&) const = default;
};

// What counts of a kernel's policy.
struct Tiles {
  const char* kernel;
  int64_t max_dim, tile_q, tile_kv;
};

bool has_rules(const Case& row) { return row.has(kBias); }
// Reads V where keys are chosen.
bool selects(const Case& row) { return row.selection != QKV_SELECT_SOFT; }
bool is_additive(const Case& row) { return row.score == QKV_SCORE_ADDITIVE; }

// Columns of the product that scores are: of additive ones two features of each harmonic and dim.
double score_columns(const Case& row, int64_t dim) {
  return is_additive(row) ? 2.0 * kernels::kSeriesHarmonics * static_cast<double>(row.d_qk)
                          : static_cast<double>(dim);
}

// On one multiprocessor, where plans do not split.
Tiles tiles_of(const Case& row) {
  const auto dim = static_cast<int32_t>(row.d_qk);
  if (row.type == QKV_TYPE_F32 && row.selection == QKV_SELECT_HARD) {
    const auto policy = kernels::sm80_tf32x3_hard_policy(dim, has_rules(row));
    return {"sm80_tf32x3_hard", policy.max_dim, kernels::kSm80Tf32x3HardTileQ, policy.tile_kv};
  }
  if (row.type == QKV_TYPE_F32) {
    const auto policy = kernels::sm80_tf32x3_policy(dim, has_rules(row));
    return {"sm80_tf32x3", policy.max_dim, kernels::kSm80Tf32x3TileQ, policy.tile_kv};
  }
  if (row.selection == QKV_SELECT_HARD) {
    const auto policy = kernels::sm80_hard_policy(dim, has_rules(row));
    return {"sm80_hard", policy.max_dim, policy.tile_q, policy.tile_kv};
  }
  host::DeviceInfo device = fake_device(80);
  device.sm_count = 1;
  host::attention::Problem problem = BuiltProblem(row, {}).oracle_problem();
  problem.device = QKV_DEVICE_CUDA;
  host::Plan plan;
  if (!make_plan(problem, device, &plan).ok()) return {};
  EXPECT_EQ(plan_schedule(plan).splits, 1);
  if (row.selection == QKV_SELECT_TOP_K)
    return {"sm80_top_k", kernels::sm80_top_k_policy(dim, has_rules(row)).max_dim,
            plan_tiles(plan).tile_q, plan_tiles(plan).tile_kv};
  if (is_additive(row))
    return {"sm80_additive", kernels::sm80_additive_policy(dim, has_rules(row)).max_dim,
            plan_tiles(plan).tile_q, plan_tiles(plan).tile_kv};
  return {"sm80_forward", kernels::sm80_forward_policy(dim, plan_variant(plan)).max_dim,
          plan_tiles(plan).tile_q, plan_tiles(plan).tile_kv};
}

// One visit of each (query tile, key block) with a visible pair, found pair by pair.
Work minimal_work(const Case& row, const Tiles& tiles) {
  const double element = row.type == QKV_TYPE_F32 ? 4 : 2;
  double scores = 0, rescales = 0, loaded = 0, features = 0, chosen = 0;
  for (int64_t b = 0; b < row.batch; ++b) {
    for (int64_t i0 = 0; i0 < row.s_q; i0 += tiles.tile_q) {
      const int64_t rows = std::min(tiles.tile_q, row.s_q - i0);
      for (int64_t i = i0; selects(row) && i < i0 + rows; ++i) {
        int64_t sees = 0;
        for (int64_t j = 0; j < row.s_kv; ++j) sees += row.in_pattern(b, i, j) ? 1 : 0;
        const auto takes = static_cast<double>(std::min(sees, row.top_k));
        loaded += takes * element * static_cast<double>(row.d_v);
        chosen += takes;
      }
      bool any = false;
      for (int64_t j0 = 0; j0 < row.s_kv; j0 += tiles.tile_kv) {
        bool visible = false;
        for (int64_t i = i0; i < i0 + rows; ++i)
          for (int64_t j = j0; j < std::min(j0 + tiles.tile_kv, row.s_kv); ++j)
            visible = visible || row.in_pattern(b, i, j);
        if (!visible) continue;
        any = true;
        scores += static_cast<double>(tiles.tile_q * tiles.tile_kv);
        features += static_cast<double>((tiles.tile_q + tiles.tile_kv) * row.d_qk);
        rescales += 4.0 * static_cast<double>(tiles.tile_q);  // each of the four lanes of a row
        const int64_t keys = std::min(tiles.tile_kv, row.length(b) - j0);
        loaded += element * static_cast<double>(keys * (row.d_qk + (selects(row) ? 0 : row.d_v)));
      }
      if (any) features += static_cast<double>(tiles.tile_q * 4);  // the first ones, ahead
      if (any) loaded += element * static_cast<double>(rows * row.d_qk);
    }
  }
  const auto heads = static_cast<double>(row.heads_q);
  const double product = 2 * scores * static_cast<double>(tiles.max_dim) * heads;
  const double exponentials = !selects(row)                       ? scores + rescales
                              : row.selection == QKV_SELECT_TOP_K ? chosen
                                                                  : 0;
  Work work{{}, exponentials * heads, loaded * heads};
  if (row.type == QKV_TYPE_F32 && selects(row))
    work.flops = {{"mma.tf32", 3 * product}};
  else if (row.type == QKV_TYPE_F32)
    work.flops = {{"mma.tf32", 3 * 2 * product}, {"mma.bf16", product}};  // the last bits of V
  else
    work.flops = {
        {row.type == QKV_TYPE_F16 ? "mma.f16" : "mma.bf16", (selects(row) ? 1 : 2) * product}};
  if (is_additive(row)) {  // in fp16
    const auto dim = static_cast<double>(tiles.max_dim);
    work.flops = {{"mma.f16", 2 * scores * heads * (score_columns(row, tiles.max_dim) + dim)}};
    work.sines = work.cosines = features * heads;
  }
  return work;
}

Work work_of(const nlohmann::json& launch) {
  Work work;
  for (const auto& [name, count] : launch.at("flops").items())
    if (name.rfind("mma.", 0) == 0) work.flops[name] = count.get<double>();
  work.exponentials = launch.at("mufu").value("ex2", 0.0);
  work.sines = launch.at("mufu").value("sin", 0.0);
  work.cosines = launch.at("mufu").value("cos", 0.0);
  work.loaded = launch.at("global").at("load_bytes").get<double>();
  return work;
}

// A case's line of the table.
std::string line_of(const Case& row, const Work& work, double conflicts) {
  double flops = 0, scores = 0;
  for (const auto& [name, count] : work.flops) flops += count;
  for (int64_t b = 0; b < row.batch; ++b)
    for (int64_t i = 0; i < row.s_q; ++i)
      for (int64_t j = 0; j < row.s_kv; ++j) scores += row.in_pattern(b, i, j) ? 1 : 0;
  const double of_v = selects(row) ? 0 : static_cast<double>(row.d_v);
  const double visible =
      2 * scores * static_cast<double>(row.heads_q) * (score_columns(row, row.d_qk) + of_v);
  char line[256];
  std::snprintf(line, sizeof line, "| %s | %s | %.0f | %.2f | %.0f | %.0f | %.0f |",
                row.name.c_str(), tiles_of(row).kernel, flops, flops / visible, work.exponentials,
                work.loaded, conflicts);
  return line;
}

std::vector<Case> tiled_cases() {
  std::vector<Case> rows;
  for (const Case& row : all_cases())
    if (row.name.rfind("tiles_", 0) == 0 && row.type != QKV_TYPE_BF16) rows.push_back(row);
  return rows;
}

// The case's launches by its kernel; the contract test runs it twice.
std::vector<nlohmann::json> launches_of(const Case& row) {
  std::vector<nlohmann::json> launches;
  for (const auto& launch : counted_launches(row, "--sms 1"))
    if (launch.at("kernel").get<std::string>().find(tiles_of(row).kernel) != std::string::npos)
      launches.push_back(launch);
  return launches;
}

double conflicts_of(const nlohmann::json& launch) {
  return launch.at("shared").at("conflict_excess").get<double>();
}

class CountedWork : public testing::TestWithParam<Case> {};

TEST_P(CountedWork, IsTheMinimalCover) {
  const Case& row = GetParam();
  Work want = minimal_work(row, tiles_of(row));
  const std::vector<nlohmann::json> launches = launches_of(row);
  ASSERT_EQ(launches.size(), 2u);
  for (const nlohmann::json& launch : launches) {
    const Work work = work_of(launch);
    EXPECT_EQ(work.flops, want.flops);
    EXPECT_EQ(work.exponentials, want.exponentials);
    EXPECT_EQ(work.sines, want.sines);
    EXPECT_EQ(work.cosines, want.cosines);
    // Else bias, lengths, or weights and what is beyond a series' range are read, too.
    if (!has_rules(row) && row.lengths.empty() && !is_additive(row)) {
      EXPECT_EQ(work.loaded, want.loaded);
    }
    // Where lists of best keys are read and written, scores decide: the table has the number.
    if (row.selection != QKV_SELECT_TOP_K) {
      EXPECT_EQ(conflicts_of(launch), 0) << launch.at("shared").dump();
    }
    std::ifstream table(QKV_COUNTED_WORK);
    const std::string line = line_of(row, work, conflicts_of(launch));
    bool found = false;
    for (std::string at; std::getline(table, at);) found = found || at == line;
    EXPECT_TRUE(found) << QKV_COUNTED_WORK " lacks\n"
                       << line << "\ncounted_work_test --write renews it";
  }
}

INSTANTIATE_TEST_SUITE_P(Tiles, CountedWork, testing::ValuesIn(tiled_cases()),
                         [](const auto& row) { return row.param.name; });

// Additive scores by fractions, in fp32: of the special function unit one reciprocal for two dims
// of a pair, and exponentials for the softmax alone, those of elements being polynomials.
TEST(CountedWorkOfFractions, IsAReciprocalForTwoDims) {
  int tested = 0;
  for (const Case& row : all_cases()) {
    if (row.name != "rational_full_f32" && row.name != "rational_wide_f32" &&
        row.name != "rational_lengths_f32")
      continue;
    ++tested;
    SCOPED_TRACE(row.name);
    constexpr int64_t kTile = 64;
    double blocks = 0;
    for (int64_t b = 0; b < row.batch; ++b)
      for (int64_t i0 = 0; i0 < row.s_q; i0 += kTile)
        for (int64_t j0 = 0; j0 < row.s_kv; j0 += kTile) {
          bool visible = false;
          for (int64_t i = i0; i < std::min(i0 + kTile, row.s_q); ++i)
            for (int64_t j = j0; j < std::min(j0 + kTile, row.s_kv); ++j)
              visible = visible || row.in_pattern(b, i, j);
          blocks += visible ? 1 : 0;
        }
    blocks *= static_cast<double>(row.heads_q);
    const auto pairs = static_cast<double>(kTile * kTile), d = static_cast<double>(row.d_qk);
    // The rescale of a row is computed by each of its 16 lanes.
    const double exponentials = blocks * (pairs + 16.0 * kTile);
    const std::vector<nlohmann::json> launches = counted_launches(row, "--sms 1");
    ASSERT_EQ(launches.size(), 2u);
    for (const nlohmann::json& launch : launches) {
      ASSERT_NE(launch.at("kernel").get<std::string>().find("simt_additive"), std::string::npos);
      EXPECT_EQ(launch.at("mufu").value("ex2", 0.0), exponentials);
      EXPECT_EQ(launch.at("mufu").value("rcp", 0.0), blocks * pairs * d / 2);
      EXPECT_EQ(launch.at("mufu").value("tanh", 0.0), 0);
      // The two rows of a half of a warp's lanes are on the same banks where P is written; features
      // are without conflicts.
      for (const auto& at : launch.at("shared").at("by_source")) {
        EXPECT_TRUE(at.at("text").get<std::string>().find(".f32 ") != std::string::npos) << at;
      }
    }
  }
  EXPECT_EQ(tested, 3);
}

// Nothing else stands in the table.
TEST(CountedWorkTable, HasALineForEachCase) {
  std::ifstream table(QKV_COUNTED_WORK);
  size_t lines = 0;
  for (std::string at; std::getline(table, at);) lines += at.rfind("| tiles_", 0) == 0 ? 1 : 0;
  EXPECT_EQ(lines, tiled_cases().size());
}

int write_table() {
  std::ofstream table(QKV_COUNTED_WORK);
  table
      << "# Counted work\n\n"
         "What the virtual GPU counts of one launch (batch 1, one head, 250 queries, 200 keys; "
         "`_rules`: with a bias),\nheld by `counted_work_test` and written by its `--write`. The "
         "tensor FLOPs are the minimal cover of the mask by the\nkernel's tiles, found pair by "
         "pair (three products in tf32 for fp32, and V's last bits in bf16), the exponentials "
         "one a\nscore and four a row and block, the bytes loaded what each block of queries "
         "needs, "
         "once.\nHard selection has one product, no exponentials, and reads of V the chosen "
         "rows. Top-k selection has one exponential for each\nof these, and bank conflicts in its "
         "lists. Additive scores have 16 columns of the product for each dim.\n\n"
         "| case | kernel | tensor FLOPs | over visible pairs | exponentials | bytes loaded | "
         "bank conflicts |\n| --- | --- | --- | --- | --- | --- | --- |\n";
  for (const Case& row : tiled_cases()) {
    const std::vector<nlohmann::json> launches = launches_of(row);
    if (launches.empty()) {
      std::fprintf(stderr, "no launch of %s\n", row.name.c_str());
      return 1;
    }
    table << line_of(row, work_of(launches[0]), conflicts_of(launches[0])) << '\n';
  }
  return 0;
}

}  // namespace
}  // namespace qkv::test

int main(int argc, char** argv) {
  try {
    if (argc == 2 && argv[1] == std::string_view("--write")) return qkv::test::write_table();
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
