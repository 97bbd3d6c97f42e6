// What is done to a tile of scores once it is computed: online softmax, running argmax, or final
// probabilities. Highway kernels, chosen for the machine at run time.
#pragma once

#include <cstdint>

namespace qkv::cpu {

// Memory that the next products will read, to be on its way into the cache while vectors are busy.
struct Ahead {
  const void* data = nullptr;
  int64_t bytes = 0;
};

// One tile of scores: `rows` queries by `width` keys. Keys outside [begin[r], end[r]) are hidden
// from row r; null pointers: none is. Other hidden keys score -inf already.
struct ScoreTile {
  float* s;       // [rows, width], 64-byte aligned; width is a multiple of kLanes
  uint16_t* p16;  // [rows, width], P as bf16; null: P is fp32, in S's place
  int64_t rows, width;
  float scale;  // of what `s` holds
  const int32_t* begin;
  const int32_t* end;
  Ahead values{}, keys{};
  bool of_16_bits = false;  // O will be rounded to a 16-bit type: exponentials need no more terms
};

// After every tile, per row: m = max S; l = sum e^(S - m); O = sum e^(S - m) V, all over the keys
// seen so far. A row that has seen none: m = -inf, l = 0. NaN scores leave m, reach l and P.
struct SoftmaxState {
  float* m;  // [rows]
  float* l;  // [rows]
  float* o;  // [rows, d_v]
  int64_t d_v;
};

// Turns S into P = e^(S - m), and brings m, l and the scale of O up to date. P is exactly 0 where
// the key is hidden, and never subnormal. Returns whether a weight is so small, less than 2^-64,
// that products with it may be subnormal.
bool online_softmax(const ScoreTile& tile, const SoftmaxState& state);

// Turns S into the final probabilities e^(S - m) / l, in place; 0 in the rows that saw no key.
void probabilities(const ScoreTile& tile, const SoftmaxState& state);

// The best key of every row so far; m = -inf and index = -1 before the first. NaN beats every
// number, the lowest key wins ties, -inf never wins. Leaves the scaled scores in tile.s.
void running_argmax(const ScoreTile& tile, int64_t first_key, float* m, int64_t* index);

// For tests: e^x of n floats as the softmax computes it.
void exp_array(const float* x, float* y, int64_t n, bool of_16_bits = false);

}  // namespace qkv::cpu
