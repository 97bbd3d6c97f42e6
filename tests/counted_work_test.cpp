// What a kernel does, counted by the virtual GPU, against what it must do: tensor FLOPs of the
// tiles that the mask leaves, an exponential for each score in them, operands read once for each
// tile, no bank conflicts. Counts are exact and the same on every machine.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/policy.h"
#include "tests/cases.h"

namespace qkv::test {
namespace {

struct Work {
  double flops = 0, exponentials = 0, loaded = 0;
};

// One visit of each (query tile, key block) with a visible pair, found pair by pair.
Work minimal_work(const Case& row, const kernels::Sm80ForwardPolicy& policy) {
  Work work;
  for (int64_t b = 0; b < row.batch; ++b) {
    for (int64_t i0 = 0; i0 < row.s_q; i0 += policy.tile_q) {
      const int64_t rows = std::min<int64_t>(policy.tile_q, row.s_q - i0);
      bool any = false;
      for (int64_t j0 = 0; j0 < row.s_kv; j0 += policy.tile_kv) {
        bool visible = false;
        for (int64_t i = i0; i < i0 + rows; ++i)
          for (int64_t j = j0; j < std::min(j0 + policy.tile_kv, row.s_kv); ++j)
            visible = visible || row.in_pattern(b, i, j);
        if (!visible) continue;
        any = true;
        const double scores = static_cast<double>(policy.tile_q) * policy.tile_kv;
        work.flops += 2 * 2 * scores * policy.max_dim;
        // One for each score, and one for each of the four lanes that share a row: its rescale.
        work.exponentials += scores + 4.0 * policy.tile_q;
        const int64_t keys = std::min<int64_t>(policy.tile_kv, row.length(b) - j0);
        work.loaded += 2.0 * static_cast<double>(keys * (row.d_qk + row.d_v));
      }
      if (any) work.loaded += 2.0 * static_cast<double>(rows * row.d_qk);
    }
  }
  const auto heads = static_cast<double>(row.heads_q);
  return {work.flops * heads, work.exponentials * heads, work.loaded * heads};
}

// What the launches of the case count.
nlohmann::json counts_of(const Case& row) {
  const auto file =
      std::filesystem::temp_directory_path() / ("qkv-counts-" + std::to_string(getpid()) + ".json");
  const std::string command =
      std::string("QKV_TEST_REPEATS=0 " QKV_VGPU_RUN " --device a100 --seed 1 --quiet --counts ") +
      file.string() + " -- " QKV_GPU_CONTRACT_TEST " --gtest_brief=1 '--gtest_filter=*Contract*/" +
      row.name + "' > /dev/null";
  nlohmann::json counts;
  if (std::system(command.c_str()) == 0) counts = nlohmann::json::parse(std::ifstream(file));
  std::filesystem::remove(file);
  return counts;
}

class CountedWork : public testing::TestWithParam<Case> {};

TEST_P(CountedWork, IsTheMinimalCover) {
  const Case& row = GetParam();
  const bool rules = row.bias != kAbsent;
  const auto policy = kernels::sm80_forward_policy(static_cast<int32_t>(row.d_qk), rules);
  const Work want = minimal_work(row, policy);
  const nlohmann::json launches = counts_of(row);
  int seen = 0;
  for (const auto& launch : launches) {
    const std::string kernel = launch.at("kernel");
    if (kernel.find("sm80_forward") == std::string::npos) continue;
    ++seen;
    const auto& flops = launch.at("flops");
    EXPECT_EQ(flops.value(row.type == QKV_TYPE_F16 ? "mma.f16" : "mma.bf16", 0.0), want.flops);
    EXPECT_EQ(launch.at("mufu").value("ex2", 0.0), want.exponentials);
    if (!rules && row.lengths.empty()) {  // else bias or lengths are read, too
      EXPECT_EQ(launch.at("global").at("load_bytes").get<double>(), want.loaded);
    }
    EXPECT_EQ(launch.at("shared").at("conflict_excess").get<double>(), 0)
        << launch.at("shared").dump();
  }
  EXPECT_EQ(seen, 2);  // the contract test runs it twice
}

std::vector<Case> tiled_cases() {
  std::vector<Case> rows;
  for (const Case& row : all_cases())
    if (row.name.rfind("tiles_", 0) == 0 && row.type == QKV_TYPE_F16) rows.push_back(row);
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Sm80Forward, CountedWork, testing::ValuesIn(tiled_cases()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace qkv::test
