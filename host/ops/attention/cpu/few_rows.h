// Products of few rows with many: what a query of a cache of keys does. Keys and values are read
// once, as they lie in the user's memory, widened in registers, and each is on its way into the
// cache while the ones before it are computed with: memory's bandwidth is the limit.
#pragma once

#include <cstdint>

#include "qkv/qkv.h"

namespace qkv::cpu {

// Rows that a product of tiles would not pay for: oneDNN copies keys and values for it.
inline constexpr int64_t kFewRows = 32;

// `keys` rows of `dim` elements, `stride` elements apart, of each of `heads` heads, `head_stride`
// elements apart; if several, they follow each other without a gap, or are slow. What follows them
// is fetched, whatever it is, and not read.
struct KeyRows {
  const void* data;
  int64_t stride, keys, dim;
  qkv_type type;
  int64_t heads = 1, head_stride = 0;
};

// s[r, j] = q[r] . k[j]; of `rows` rows the first rows / k.heads belong to the first head of k, and
// so on, here and below. q is [rows, pitch] of fp32, zero past k.dim, pitch a multiple of kLanes;
// rows of s are `width` apart.
void few_scores(const float* q, int64_t rows, int64_t pitch, const KeyRows& k, float* s,
                int64_t width);

// o[r] += sum over j of p[r, j] v[j], one key after the other: `o` should be a tile's own sum, so
// that the error of many keys does not grow with their number. Rows of p are `width` apart, rows of
// o v.dim.
void few_values(const float* p, int64_t rows, int64_t width, const KeyRows& v, float* o);

}  // namespace qkv::cpu
