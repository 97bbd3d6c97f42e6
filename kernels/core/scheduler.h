// Which block of a grid computes what: query rows, heads and a split of the keys. Pure functions,
// used by kernels, plans and tests alike.
#pragma once

#include <cstdint>

#include "kernels/core/mask.h"
#include "kernels/host_device.h"

namespace qkv::kernels {

// n / divisor for 0 <= n < 2^31 without a division (Granlund and Montgomery, "Division by invariant
// integers using multiplication", 1994).
struct FastDivisor {
  uint32_t divisor = 1, multiplier = 1, shift = 0;

  constexpr FastDivisor() = default;
  constexpr explicit FastDivisor(uint32_t d) : divisor(d) {
    while ((uint64_t{1} << shift) < d) ++shift;
    multiplier = static_cast<uint32_t>((((uint64_t{1} << shift) - d) << 32) / d + 1);
  }

  QKV_HOST_DEVICE uint32_t divide(uint32_t n) const {
    const auto high = static_cast<uint32_t>(uint64_t{n} * multiplier >> 32);
    return (high + n) >> shift;
  }
};

// How the work is cut into blocks. A set is the query rows that go through the same K and V
// together: those of one head (group 1), or of all `group` query heads of a KV head (PackGQA). Rows
// of a packed set are numbered head fastest, row r is query r / group of head r % group: what a row
// sees still grows with r, and a tile is as wide in keys as its few queries need.
struct TileSchedule {
  int32_t tile_q = 1, tile_kv = 1;
  int32_t rows = 0;        // of a set: s_q * group
  int32_t tiles = 0;       // of a set
  int32_t sets = 0;        // of all batches
  int32_t heads = 1;       // sets of one batch: heads_q / group
  int32_t kv_ratio = 1;    // query heads of a KV head
  int32_t section = 1;     // sets whose blocks run together: their K and V share the L2 cache
  int32_t splits = 1;      // of the keys (flash decoding)
  int32_t split_keys = 0;  // keys of a split, a multiple of tile_kv; 0: the visible ones, evenly
  FastDivisor group;

  // Blocks of the grid.
  QKV_HOST_DEVICE int64_t blocks() const { return int64_t{tiles} * sets * splits; }

  // The query of a row of a set, and the row's head, counted from the set's first; i = query(row).
  QKV_HOST_DEVICE int32_t query(int32_t row) const {
    return static_cast<int32_t>(group.divide(static_cast<uint32_t>(row)));
  }
  QKV_HOST_DEVICE int32_t member(int32_t row, int32_t i) const {
    return row - i * static_cast<int32_t>(group.divisor);
  }
};

// The grid for sizes below 2^31; blocks() must be checked against a grid's limit. `group` is 1 or
// heads_q / heads_kv; s_q * group < 2^31 - tile_q.
constexpr TileSchedule tile_schedule(int32_t tile_q, int32_t tile_kv, int32_t batch,
                                     int32_t heads_q, int32_t heads_kv, int32_t s_q,
                                     int32_t group) {
  TileSchedule s;
  s.tile_q = tile_q;
  s.tile_kv = tile_kv;
  s.rows = s_q * group;
  s.tiles = static_cast<int32_t>((int64_t{s.rows} + tile_q - 1) / tile_q);
  s.heads = heads_q / group;
  s.sets = batch * s.heads;
  s.kv_ratio = heads_q / heads_kv;
  s.section = s.sets;
  s.group = FastDivisor(static_cast<uint32_t>(group));
  return s;
}

// What one block computes.
struct WorkTile {
  int32_t batch, head, head_kv;  // head: the first of the set
  int32_t row, rows;             // the tile's first row in its set, and how many exist
  int32_t split;
};

// Section by section; in each the last tiles first, which see the most keys under a causal mask:
// the longest blocks start first, the shortest fill the gaps at the end.
QKV_HOST_DEVICE inline WorkTile work_tile(const TileSchedule& s, uint32_t block) {
  const auto tiles = static_cast<uint32_t>(s.tiles), splits = static_cast<uint32_t>(s.splits);
  const auto section = static_cast<uint32_t>(s.section);
  const uint32_t nth = block / (section * tiles * splits);
  const uint32_t within = block - nth * section * tiles * splits;
  const uint32_t left = static_cast<uint32_t>(s.sets) - nth * section;
  const uint32_t sets = section < left ? section : left;  // of this section
  const uint32_t tile = tiles - 1 - within / (sets * splits);
  const uint32_t rest = within % (sets * splits);
  const uint32_t set = nth * section + rest / splits;
  const auto heads = static_cast<uint32_t>(s.heads);
  const auto row = static_cast<int32_t>(tile) * s.tile_q;
  const int32_t head = static_cast<int32_t>(set % heads * s.group.divisor);
  return {static_cast<int32_t>(set / heads),
          head,
          head / s.kv_ratio,
          row,
          s.rows - row < s.tile_q ? s.rows - row : s.tile_q,
          static_cast<int32_t>(rest % splits)};
}

// The keys that at least one of a tile's rows sees, and the ones that every row sees.
struct TileKeys {
  KeyRange visible, unmasked;
};

QKV_HOST_DEVICE inline TileKeys tile_keys(const TileSchedule& s, const KeyMask& mask, int32_t row,
                                          int32_t rows) {
  const int32_t first = s.query(row), queries = s.query(row + rows - 1) - first + 1;
  return {mask.visible_keys(first, queries), mask.unmasked_keys(first, queries)};
}

// The part of `visible` that split `split` computes; empty when begin >= end. Splits begin at
// multiples of tile_kv, so that no block of keys is computed twice; if split_keys is given, at its
// multiples, whatever is visible.
QKV_HOST_DEVICE inline KeyRange keys_of_split(const TileSchedule& s, KeyRange visible,
                                              int32_t split) {
  int64_t begin = 0, end = 0;
  if (s.split_keys > 0) {
    begin = int64_t{split} * s.split_keys;
    end = begin + s.split_keys;
  } else {
    const int64_t first = visible.begin / s.tile_kv;
    const int64_t blocks =
        visible.begin < visible.end ? (visible.end - 1) / s.tile_kv + 1 - first : 0;
    begin = (first + blocks * split / s.splits) * s.tile_kv;
    end = (first + blocks * (split + 1) / s.splits) * s.tile_kv;
  }
  return {begin > visible.begin ? static_cast<int32_t>(begin) : visible.begin,
          end < visible.end ? static_cast<int32_t>(end) : visible.end};
}

// The LSE of a split, high + low: as one fp32 number it would have lost, where scores are large,
// what tells the splits' weights. Of a split without keys it is {-inf, 0}.
struct SplitLse {
  float high, low;
};

// Where the splits leave their results, fp32, in the caller's workspace: o [splits, batch, heads_q,
// s_q, d_v], then lse [splits, batch, heads_q, s_q]. A split without visible keys for a row leaves
// no o.
struct Partials {
  float* o = nullptr;  // null: there is one split, which writes the results
  SplitLse* lse = nullptr;

  // The number of the row in both.
  QKV_HOST_DEVICE static int64_t row(const ForwardArgs& args, int32_t split, int32_t batch,
                                     int32_t head, int32_t i) {
    return ((int64_t{split} * args.batch + batch) * args.heads_q + head) * args.s_q + i;
  }
};

}  // namespace qkv::kernels
