// How kernels cut their work: every (row, key) that is seen belongs to exactly one block, whatever
// the packing, the splits and the order.
#include "kernels/core/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <queue>
#include <tuple>
#include <vector>

#include "kernels/core/merge_math.h"
#include "tests/support/elements.h"

namespace qkv::test {
namespace {

using kernels::FastDivisor;
using kernels::KeyRange;
using kernels::TileSchedule;
using kernels::WorkTile;

TEST(FastDivisor, Divides) {
  Random random(1);
  constexpr uint32_t kLargest = 0x7fffffff;
  const auto check = [](uint32_t n, uint32_t d) {
    ASSERT_EQ(FastDivisor(d).divide(n), n / d) << n << " / " << d;
  };
  for (uint32_t d = 1; d <= 300; ++d) {
    for (uint32_t n = 0; n < 700; ++n) check(n, d);
    for (uint32_t n = kLargest - 300; n < kLargest; ++n) check(n, d);
    check(kLargest, d);
  }
  for (int round = 0; round < 100000; ++round) {
    const auto n = static_cast<uint32_t>(random.bits()) >> 1;
    const auto d = static_cast<uint32_t>(random.bits()) >> (1 + random.bits() % 31);
    if (d == 0) continue;
    check(n, d);
    check(n / d * d, d);
    if (n / d > 0) check(n / d * d - 1, d);
  }
}

struct Sizes {
  int32_t tile_q, tile_kv, batch, heads_q, heads_kv, s_q, group, section, splits, split_keys;
};

TileSchedule schedule_of(const Sizes& c) {
  TileSchedule s =
      kernels::tile_schedule(c.tile_q, c.tile_kv, c.batch, c.heads_q, c.heads_kv, c.s_q, c.group);
  if (c.section > 0) s.section = c.section;
  s.splits = c.splits;
  s.split_keys = c.split_keys;
  return s;
}

constexpr Sizes kSizes[] = {
    {16, 8, 1, 1, 1, 1, 1, 0, 1, 0},    {16, 8, 2, 6, 3, 37, 1, 0, 1, 0},
    {16, 8, 2, 6, 3, 37, 2, 0, 3, 0},   {16, 8, 3, 8, 1, 5, 8, 2, 7, 0},
    {16, 8, 2, 12, 4, 23, 3, 5, 4, 16}, {128, 48, 1, 4, 4, 300, 1, 3, 2, 0},
    {64, 32, 5, 71, 1, 2, 71, 4, 1, 0},
};

TEST(TileSchedule, EveryRowOfEveryHeadHasOneTile) {
  for (const Sizes& c : kSizes) {
    const TileSchedule s = schedule_of(c);
    std::map<std::tuple<int, int, int, int>, int> seen;  // batch, head, query, split
    for (int64_t block = 0; block < s.blocks(); ++block) {
      const WorkTile tile = kernels::work_tile(s, static_cast<uint32_t>(block));
      ASSERT_EQ(tile.head_kv, tile.head / (c.heads_q / c.heads_kv));
      ASSERT_GT(tile.rows, 0);
      ASSERT_LE(tile.rows, c.tile_q);
      for (int32_t r = tile.row; r < tile.row + tile.rows; ++r) {
        const int32_t i = s.query(r), head = tile.head + s.member(r, i);
        ASSERT_EQ(head / (c.heads_q / c.heads_kv), tile.head_kv);
        ++seen[{tile.batch, head, i, tile.split}];
      }
    }
    EXPECT_EQ(seen.size(), static_cast<size_t>(c.batch * c.heads_q * c.s_q * c.splits));
    for (const auto& [place, times] : seen) {
      const auto [batch, head, query, split] = place;
      ASSERT_EQ(times, 1);
      ASSERT_TRUE(batch < c.batch && head < c.heads_q && query < c.s_q && split < c.splits);
    }
  }
}

// Within a section a tile that may see more keys never starts later.
TEST(TileSchedule, LongTilesStartFirst) {
  for (const Sizes& c : kSizes) {
    const TileSchedule s = schedule_of(c);
    const int64_t per_section = int64_t{s.section} * s.tiles * s.splits;
    int32_t row = std::numeric_limits<int32_t>::max();
    for (int64_t block = 0; block < s.blocks(); ++block) {
      const WorkTile tile = kernels::work_tile(s, static_cast<uint32_t>(block));
      if (block % per_section != 0) {
        ASSERT_LE(tile.row, row);
      }
      row = tile.row;
      const int64_t set = int64_t{tile.batch} * s.heads + tile.head / (c.heads_q / s.heads);
      ASSERT_EQ(set / s.section, block / per_section);
    }
  }
}

// Blocks that fetch a tile when they are nearly through with the last one: under a causal mask who
// had the longest of a wave gets the shortest of the next, also where there are two waves only.
TEST(TileSchedule, FetchedTilesFillTheDeviceEvenly) {
  constexpr int kBlocks = 132, kTile = 128;
  constexpr double kHandOff = 0.6;  // of a tile, in blocks of keys
  struct Square {
    int32_t size, heads, section;
  };
  for (const auto& [size, heads, section] :
       {Square{512, 64, 64}, Square{1024, 32, 32}, Square{2048, 16, 16}, Square{4096, 8, 8},
        Square{8192, 4, 4}, Square{16384, 2, 2}, Square{2048, 128, 24}, Square{8192, 32, 6},
        Square{16384, 16, 3}}) {
    TileSchedule s = kernels::tile_schedule(kTile, kTile, 1, heads, heads, size, 1);
    s.section = section;
    std::priority_queue<double, std::vector<double>, std::greater<>> free_at(
        std::greater<>(), std::vector<double>(kBlocks, 0.0));
    double sum = 0, end = 0;
    for (int64_t block = 0; block < s.blocks(); ++block) {
      const WorkTile tile = kernels::work_tile(s, static_cast<uint32_t>(block));
      const double takes = (tile.row + tile.rows) / kTile + kHandOff;
      const double done = free_at.top() + takes;
      free_at.pop();
      free_at.push(done);
      sum += takes;
      end = std::max(end, done);
    }
    EXPECT_LE(end, 1.05 * sum / kBlocks) << size << " queries, " << heads << " heads";
  }
}

TEST(TileSchedule, SplitsShareTheVisibleKeys) {
  Random random(2);
  for (int round = 0; round < 20000; ++round) {
    TileSchedule s;
    s.tile_kv = static_cast<int32_t>(16 * random.integer(1, 8));
    s.splits = static_cast<int32_t>(random.integer(1, 9));
    const auto begin = static_cast<int32_t>(random.integer(0, 1000));
    const KeyRange visible{begin, begin + static_cast<int32_t>(random.integer(-3, 1000))};
    if (round % 2 == 0) {
      s.split_keys = s.tile_kv * static_cast<int32_t>(random.integer(1, 5));
      s.splits = 2000 / s.split_keys + 1;
    }
    int32_t at = visible.begin;
    int64_t fewest = std::numeric_limits<int64_t>::max(), most = 0;
    for (int32_t split = 0; split < s.splits; ++split) {
      const KeyRange keys = kernels::keys_of_split(s, visible, split);
      const bool some = keys.begin < keys.end;
      const int64_t blocks = some ? (keys.end - 1) / s.tile_kv + 1 - keys.begin / s.tile_kv : 0;
      fewest = std::min(fewest, blocks);
      most = std::max(most, blocks);
      if (!some) continue;
      ASSERT_EQ(keys.begin, at);
      at = keys.end;
      if (at < visible.end) {
        ASSERT_EQ(at % s.tile_kv, 0);
      }
      if (s.split_keys > 0) {
        ASSERT_EQ(keys.begin / s.split_keys, split);
        ASSERT_EQ((keys.end - 1) / s.split_keys, split);
      }
    }
    ASSERT_EQ(at, std::max(visible.begin, visible.end));
    if (s.split_keys == 0) {
      ASSERT_LE(most - fewest, 1);
    }
  }
}

TEST(TileSchedule, PlacesOfPartialsAreDense) {
  kernels::ForwardArgs args;
  args.batch = 2, args.heads_q = 3, args.s_q = 5;
  int64_t at = 0;
  for (int split = 0; split < 4; ++split)
    for (int b = 0; b < 2; ++b)
      for (int h = 0; h < 3; ++h)
        for (int i = 0; i < 5; ++i) ASSERT_EQ(kernels::Partials::row(args, split, b, h, i), at++);
}

TEST(MergeMath, OfPartsWithAndWithoutKeys) {
  constexpr float kInfF = std::numeric_limits<float>::infinity();
  EXPECT_EQ(kernels::part_weight(-kInfF, -kInfF), 0);
  EXPECT_EQ(kernels::part_weight(-kInfF, 3), 0);
  EXPECT_EQ(kernels::part_weight(3, 3), 1);
  EXPECT_TRUE(std::isnan(kernels::part_weight(std::nanf(""), 3)));
  EXPECT_EQ(kernels::merged_lse(-kInfF, 0), -kInfF);
  EXPECT_EQ(kernels::merged_lse(7, 1), 7);
  EXPECT_TRUE(std::isnan(kernels::merged_lse(-kInfF, std::nanf(""))));
  EXPECT_EQ(kernels::merged_o(0, 0), 0);
  EXPECT_EQ(kernels::merged_o(3, 2), 1.5f);
}

}  // namespace
}  // namespace qkv::test
