// What sm90_forward does, counted by the virtual GPU: tensor FLOPs and exponentials of what each
// warpgroup's rows see, with the diagonal cut to 64 keys; Q, K and V read once for each tile; no
// bank conflicts. Of blocks of keys that a mask hides from all rows of a tile, nothing. And
// sm90_hard: Q K^T of what each warpgroup's rows see, Q and K read once for each tile, of V the
// chosen rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/verify/cases.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/attention/sm90_hard/policy.h"
#include "tests/support/counted_launches.h"

namespace qkv::test {
namespace {

constexpr int64_t kRows = kernels::kSm90Rows;  // of a warpgroup

struct Work {
  double flops = 0, loaded = 0;
  double weights = 0, rescales = 0;  // exponentials
  double first_rescales = 0;         // of a warpgroup's first block
};

// Whether one of the rows sees one of the keys.
bool sees(const Case& row, int64_t b, int64_t i0, int64_t rows, int64_t j0, int64_t keys) {
  for (int64_t i = i0; i < std::min(i0 + rows, row.s_q); ++i)
    for (int64_t j = j0; j < std::min(j0 + keys, row.s_kv); ++j)
      if (row.in_pattern(b, i, j)) return true;
  return false;
}

// Pair by pair; a mask with hidden squares shows a part of each block that is not in them alone. A
// warpgroup computes whole blocks of keys, of its last one the first half if that is all it sees.
Work minimal_work(const Case& row, const kernels::Sm90Shape& shape) {
  Work work;
  const int64_t tile_q = shape.tile_q(), keys = shape.tile_kv;
  const auto shown = [&](int64_t b, int64_t tile, int64_t j0) {
    const int axes = row.inputs[host::attention::kMask].axes;
    for (int64_t i = tile; i < std::min(tile + tile_q, row.s_q); ++i)
      for (int64_t j = j0; j < std::min(j0 + keys, row.s_kv); ++j)
        if (!row.in_hidden_square(axes & kBatch ? b : 0, 0, axes & kQueries ? i : 0, j))
          return true;
    return false;
  };
  for (int64_t b = 0; b < row.batch; ++b) {
    for (int64_t tile = 0; tile < row.s_q; tile += tile_q) {
      double blocks = 0;
      for (int64_t j0 = 0; j0 < row.s_kv; j0 += keys)
        blocks += sees(row, b, tile, tile_q, j0, keys) && shown(b, tile, j0);
      // Q, and K and V of each block, in whole panels.
      if (blocks > 0) work.loaded += shape.q_bytes() + blocks * (shape.k_bytes() + shape.v_bytes());
      for (int64_t i0 = tile; i0 < tile + tile_q; i0 += kRows) {
        bool last = true;
        for (int64_t j0 = (row.s_kv - 1) / keys * keys; j0 >= 0; j0 -= keys) {
          if (!sees(row, b, i0, kRows, j0, keys) || !shown(b, tile, j0)) continue;
          const bool half = last && !sees(row, b, i0, kRows, j0 + shape.half, keys - shape.half);
          const auto scores = static_cast<double>(kRows * (half ? shape.half : keys));
          work.flops += 2 * scores * (shape.d_qk + shape.d_v);
          work.weights += scores;
          work.rescales += 4 * kRows;  // by a row's four lanes
          if (last) work.first_rescales += 4 * kRows;
          last = false;
        }
      }
    }
  }
  const auto heads = static_cast<double>(row.heads_q);
  for (double* all :
       {&work.flops, &work.loaded, &work.weights, &work.rescales, &work.first_rescales})
    *all *= heads;
  return work;
}

double visible_pairs(const Case& row) {
  double pairs = 0;
  for (int64_t b = 0; b < row.batch; ++b)
    for (int64_t i = 0; i < row.s_q; ++i)
      for (int64_t j = 0; j < row.s_kv; ++j) pairs += row.in_pattern(b, i, j);
  return pairs * static_cast<double>(row.heads_q);
}

class Sm90Work : public testing::TestWithParam<Case> {};

// On one multiprocessor, where plans do not split.
TEST_P(Sm90Work, IsTheMinimalCover) {
  const Case& row = GetParam();
  const kernels::Sm90Variant variant =
      row.mask_squares > 0 ? kernels::Sm90Variant::kRules : kernels::Sm90Variant::kPlain;
  const kernels::Sm90Shape& shape = *kernels::sm90_shape(row.d_qk, row.d_v, variant);
  const Work want = minimal_work(row, shape);
  int launches = 0;
  for (const auto& launch : counted_launches(row, "--device h100 --sms 1")) {
    if (launch.at("kernel").get<std::string>().find("sm90_forward") == std::string::npos) continue;
    ++launches;
    double flops = 0;
    for (const auto& [name, count] : launch.at("flops").items())
      if (name.rfind("mma.", 0) == 0) flops += count.get<double>();
    EXPECT_EQ(flops, want.flops);
    // Three warpgroups rescale where a row of a warp rises.
    const double rescales = launch.at("mufu").value("ex2", 0.0) - want.weights;
    EXPECT_LE(rescales, want.rescales);
    EXPECT_GE(rescales, shape.warpgroups == 3 ? want.first_rescales : want.rescales);
    EXPECT_EQ(launch.at("bulk").at("load_bytes").get<double>(), want.loaded);
    EXPECT_EQ(launch.at("shared").at("conflict_excess").get<double>(), 0)
        << launch.at("shared").dump();
    if (row.name.rfind("warpgroups_square", 0) == 0) {  // 128 dims
      const auto s = static_cast<double>(row.s_q);
      EXPECT_EQ(flops, 4 * 128 * visible_pairs(row) * (s + 64) / (s + 1));
    }
  }
  EXPECT_EQ(launches, 2) << "the contract test runs a case twice";
}

std::vector<Case> counted_cases() {
  std::vector<Case> rows;
  for (const Case& row : all_cases()) {
    if (row.name.rfind("warpgroups", 0) == 0 && row.type == QKV_TYPE_F16 &&
        row.selection == QKV_SELECT_SOFT && row.heads_q == row.heads_kv && row.softcap == 0 &&
        row.name.find("_rules_") == std::string::npos &&
        (row.mask_squares == 0 || row.name.find("_hidden_squares_") != std::string::npos ||
         row.name.find("_hidden_window_") != std::string::npos))
      rows.push_back(row);
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Warpgroups, Sm90Work, testing::ValuesIn(counted_cases()),
                         [](const auto& row) { return row.param.name; });

// Pair by pair: tensor FLOPs, bytes that TMA writes, bytes that are read of Q, K and V.
struct HardWork {
  double flops = 0, copied = 0, loaded = 0;
};

HardWork minimal_hard_work(const Case& row, const kernels::Sm90HardShape& shape) {
  constexpr int64_t kTileQ = kernels::kSm90HardTileQ, kKeys = kernels::kSm90HardTileKv;
  HardWork work;
  for (int64_t b = 0; b < row.batch; ++b) {
    for (int64_t i = 0; i < row.s_q; ++i)
      if (sees(row, b, i, 1, 0, row.s_kv)) work.loaded += 2.0 * static_cast<double>(row.d_v);
    for (int64_t tile = 0; tile < row.s_q; tile += kTileQ) {
      double blocks = 0, products = 0, rows = 0;
      for (int64_t j0 = 0; j0 < row.s_kv; j0 += kKeys) {
        const bool seen = sees(row, b, tile, kTileQ, j0, kKeys);
        blocks += seen;
        if (seen) rows += static_cast<double>(std::min(kKeys, row.s_kv - j0));
        for (int64_t i0 = tile; i0 < tile + kTileQ; i0 += kernels::kSm90HardRows)
          products += sees(row, b, i0, kernels::kSm90HardRows, j0, kKeys);
      }
      work.flops += products * 2 * kernels::kSm90HardRows * kKeys * shape.dim;
      if (blocks > 0) work.copied += shape.q_bytes() + blocks * shape.k_bytes();
      if (blocks > 0) rows += static_cast<double>(std::min(kTileQ, row.s_q - tile));
      work.loaded += rows * 2 * static_cast<double>(row.d_qk);
    }
  }
  const auto heads = static_cast<double>(row.heads_q);
  return {work.flops * heads, work.copied * heads, work.loaded * heads};
}

class Sm90HardWork : public testing::TestWithParam<Case> {};

TEST_P(Sm90HardWork, IsTheMinimalCover) {
  const Case& row = GetParam();
  const HardWork want = minimal_hard_work(row, *kernels::sm90_hard_shape(row.d_qk));
  int launches = 0;
  for (const auto& launch : counted_launches(row, "--device h100 --sms 1")) {
    if (launch.at("kernel").get<std::string>().find("sm90_hard") == std::string::npos) continue;
    ++launches;
    double flops = 0;
    for (const auto& [name, count] : launch.at("flops").items())
      if (name.rfind("mma.", 0) == 0) flops += count.get<double>();
    EXPECT_EQ(flops, want.flops);
    EXPECT_EQ(launch.at("bulk").at("load_bytes").get<double>(), want.copied);
    if (row.lengths.empty()) {  // else they are read, too
      EXPECT_EQ(launch.at("global").at("load_bytes").get<double>(), want.loaded);
    }
    EXPECT_EQ(launch.at("mufu").value("ex2", 0.0), 0);
    EXPECT_EQ(launch.at("shared").at("conflict_excess").get<double>(), 0)
        << launch.at("shared").dump();
  }
  EXPECT_EQ(launches, 2) << "the contract test runs a case twice";
}

std::vector<Case> counted_hard_cases() {
  std::vector<Case> rows;
  for (const Case& row : all_cases())
    if (row.name.rfind("warpgroups_hard_", 0) == 0 && row.type == QKV_TYPE_F16 &&
        row.heads_q == row.heads_kv)
      rows.push_back(row);
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Warpgroups, Sm90HardWork, testing::ValuesIn(counted_hard_cases()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace qkv::test
