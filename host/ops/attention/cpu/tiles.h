// Which queries and keys a tile covers, and its operands as dense matrices.
#pragma once

#include <algorithm>
#include <cstdint>

#include "host/ops/attention/cpu/scratch.h"
#include "host/ops/attention/problem.h"

namespace qkv::cpu {

// Queries [first, first + rows) of one head: one task.
struct QueryTile {
  int64_t b, h, h_kv;
  int64_t first, rows;
  int64_t length;  // of the batch's keys
};

// Tiles of a head follow each other, so that its keys stay in the cache; the last queries come
// first, since under a causal mask they see the most keys.
QueryTile query_tile(const host::attention::Problem& p, int64_t tile_q, int64_t task);

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
          host::attention::visible_keys(p, q.first + q.rows - 1, q.length).end};
}

// Rows [row, row + rows) of a head as a dense [height, width] matrix of fp32, or bf16 if so asked;
// what lies beyond the rows and the tensor's dim is zero. This is the user's memory where it has
// that form, else a copy in `scratch`. Nothing outside the rows is read.
const void* dense_tile(const host::View& x, int64_t b, int64_t h, int64_t row, int64_t rows,
                       int64_t height, int64_t width, bool bf16, void* scratch);

}  // namespace qkv::cpu
