// Which queries and keys a tile covers, and its operands as dense matrices.
#pragma once

#include <algorithm>
#include <cstdint>

#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/few_rows.h"
#include "host/ops/attention/cpu/scratch.h"
#include "host/ops/attention/problem.h"

namespace qkv::cpu {

// Queries [first, first + queries) of `heads` heads, h and those behind it: row r is query
// first + r % queries of head h + r / queries. They share their keys, or have those of `heads_kv`
// heads, h_kv and those behind it, and each of these the same number of rows.
struct QueryTile {
  int64_t b, h, h_kv, heads, heads_kv;
  int64_t first, queries;
  int64_t rows;    // heads * queries
  int64_t length;  // of the batch's keys

  int64_t head(int64_t row) const { return h + row / queries; }
  int64_t query(int64_t row) const { return first + row % queries; }
  int64_t key_head(int64_t row) const { return h_kv + row / (rows / heads_kv); }
};

// Tiles of a head follow each other, so that its keys stay in the cache; the last queries come
// first, since under a causal mask they see the most keys.
QueryTile query_tile(const host::attention::Problem& p, const Policy& policy, int64_t number);

// Keys [first, first + keys), computed as `width` columns of which the last are padding.
struct KeyTile {
  int64_t first, keys, width;
};

// The tile that starts at key `first` when keys up to `end` are wanted.
inline KeyTile key_tile(int64_t first, int64_t end, int64_t tile_kv) {
  int64_t width = tile_kv;
  while (width > end - first && width > kTailKeys) width /= 2;
  return {first, std::min(end - first, width), width};
}

// The union of what the tile's queries see by length and window; the ends grow with the query.
inline host::attention::KeyRange visible_keys(const host::attention::Problem& p,
                                              const QueryTile& q) {
  return {host::attention::visible_keys(p, q.first, q.length).begin,
          host::attention::visible_keys(p, q.first + q.queries - 1, q.length).end};
}

// Part `part` of the keys that a tile wants. Where the parts end depends on nothing but the
// problem; the last ones may be empty.
inline host::attention::KeyRange part_of(const host::attention::KeyRange& keys,
                                         const Policy& policy, int64_t part) {
  if (policy.parts == 1) return keys;
  const int64_t size =
      round_up((keys.end - keys.begin + policy.parts - 1) / policy.parts, policy.tile_kv);
  return {std::min(keys.end, keys.begin + part * size),
          std::min(keys.end, keys.begin + (part + 1) * size)};
}

// A tile's keys or values as they lie.
KeyRows rows_of(const host::View& x, const QueryTile& q, const KeyTile& tile);

// Rows [row, row + rows) of a head as a dense [height, width] matrix of fp32, or bf16 if so asked;
// what lies beyond the rows and the tensor's dim is zero. This is the user's memory where it has
// that form, else a copy in `scratch`. Nothing outside the rows is read.
const void* dense_tile(const host::View& x, int64_t b, int64_t h, int64_t row, int64_t rows,
                       int64_t height, int64_t width, bool bf16, void* scratch);

}  // namespace qkv::cpu
