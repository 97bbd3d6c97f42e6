// What sm90_wide does, counted by the virtual GPU: tensor FLOPs and exponentials of the blocks of
// keys that a tile sees, over the panels that d_qk and d_v have; Q, K and V read once for each
// tile, or for each cluster of two tiles; no bank conflicts.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/verify/cases.h"
#include "kernels/attention/sm90_wide/policy.h"
#include "tests/support/counted_launches.h"

namespace qkv::test {
namespace {

struct Work {
  double flops = 0, exponentials = 0, loaded = 0, multicast = 0;
};

// Pair by pair, for clusters of so many tiles. A tile computes the blocks of its cluster.
Work minimal_work(const Case& row, int64_t cluster) {
  using namespace kernels;
  Work work;
  const auto panels = [](int64_t dim) {
    return static_cast<double>((dim + kSm90WidePanel - 1) / kSm90WidePanel);
  };
  const double qk = panels(row.d_qk), all = qk + panels(row.d_v);
  const auto tiles = static_cast<double>(cluster);
  for (int64_t b = 0; b < row.batch; ++b) {
    for (int64_t i0 = 0; i0 < row.s_q; i0 += cluster * kSm90WideRows) {
      const int64_t end = std::min(i0 + cluster * kSm90WideRows, row.s_q);
      double blocks = 0;
      for (int64_t j0 = 0; j0 < row.s_kv; j0 += kSm90WideTileKv) {
        bool seen = false;
        for (int64_t i = i0; i < end; ++i)
          for (int64_t j = j0; j < std::min(j0 + kSm90WideTileKv, row.s_kv); ++j)
            seen = seen || row.in_pattern(b, i, j);
        blocks += seen;
      }
      constexpr double kScores = kSm90WideRows * kSm90WideTileKv;
      const double pieces = kSm90WideTileKv * kSm90WidePanelBytes * blocks * all;
      work.flops += tiles * blocks * 2 * kScores * kSm90WidePanel * all;
      // A row's four lanes rescale.
      work.exponentials += tiles * blocks * (kScores + 4 * kSm90WideRows);
      if (blocks > 0) work.loaded += tiles * qk * kSm90WideRows * kSm90WidePanelBytes;
      work.loaded += pieces;
      if (cluster > 1) work.multicast += pieces;
    }
  }
  return work;
}

class Sm90WideWork : public testing::TestWithParam<Case> {
 protected:
  static void expect(const Case& row, const std::string& device, const Work& want) {
    int launches = 0;
    for (const auto& launch : counted_launches(row, device)) {
      if (launch.at("kernel").get<std::string>().find("sm90_wide") == std::string::npos) continue;
      ++launches;
      double flops = 0;
      for (const auto& [name, count] : launch.at("flops").items())
        if (name.rfind("mma.", 0) == 0) flops += count.get<double>();
      EXPECT_EQ(flops, want.flops);
      EXPECT_EQ(launch.at("mufu").value("ex2", 0.0), want.exponentials);
      EXPECT_EQ(launch.at("bulk").at("load_bytes").get<double>(), want.loaded)
          << launch.at("bulk").dump();
      EXPECT_EQ(launch.at("shared").at("conflict_excess").get<double>(), 0)
          << launch.at("shared").dump();
    }
    EXPECT_EQ(launches, 2) << "the contract test runs a case twice";
  }
};

// On one multiprocessor, where plans do not split.
TEST_P(Sm90WideWork, IsTheMinimalCover) {
  expect(GetParam(), "--device h100 --sms 1", minimal_work(GetParam(), 1));
}

std::vector<Case> counted_cases() {
  std::vector<Case> rows;
  for (const Case& row : all_cases())
    for (const char* name :
         {"wide_causal_f16", "wide_d264_f16", "wide_d320_f16", "wide_qk512_v72_f16"})
      if (row.name == name) rows.push_back(row);
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Wide, Sm90WideWork, testing::ValuesIn(counted_cases()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace qkv::test
