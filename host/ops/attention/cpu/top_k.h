// Top-k selection: the best keys of every row while tiles of scores go by, without storing the
// scores. A key is kept if it beats the row's bar; when there is no more room, the k best stay, and
// the bar rises to the last of these. Ordered by score, then by key, so that what is kept in the
// end depends on nothing but the scores.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "host/ops/attention/cpu/softmax.h"

namespace qkv::cpu {

struct RankedKey {
  float score;
  int64_t key;
};

// NaN beats every number, of equal scores the lowest key is better.
inline bool better(const RankedKey& a, const RankedKey& b) {
  const bool a_nan = std::isnan(a.score), b_nan = std::isnan(b.score);
  if (a_nan != b_nan) return a_nan;
  if (a_nan || a.score == b.score) return a.key < b.key;
  return a.score > b.score;
}

// Room of a row. With twice k the bar is so fresh that about 1.4 times as many keys pass as would
// with the bar of each moment.
constexpr int64_t top_room(int64_t k) { return k + std::max<int64_t>(k, 8); }

// The rows of a tile of queries; k, and [rows, top_room(k)], [rows], [rows] of memory.
struct TopK {
  int64_t k = 0;
  RankedKey* kept = nullptr;  // of a row the first `count`, in no order
  int64_t* count = nullptr;
  float* bar = nullptr;  // what a key must beat; NaN: k keys score NaN, no other matters

  RankedKey* row(int64_t r) const { return kept + r * top_room(k); }

  // No key yet.
  void clear(int64_t rows) const;
  // Keeps a key whatever the bar; -inf is no score of a key to keep.
  void keep(int64_t r, const RankedKey& key) const {
    row(r)[count[r]++] = key;
    if (count[r] == top_room(k)) cut(r);
  }
  // The k best stay; the bar rises.
  void cut(int64_t r) const;
  // The same, best first.
  void rank(int64_t r) const;
};

// The scores of one more tile. Keys of a row come in ascending order: of equal scores the ones that
// are kept already are better. Leaves the tile as it is.
void running_top_k(const ScoreTile& tile, int64_t first_key, const TopK& top);

// A ranked row as softmax: weights[n] = e^(S_n - m) of its keys. Of a row without keys nothing.
struct TopSum {
  int64_t count = 0;
  float m = 0, l = 0;  // the largest score, the sum of the weights
};
TopSum weigh(const TopK& top, int64_t r, float* weights);

}  // namespace qkv::cpu
