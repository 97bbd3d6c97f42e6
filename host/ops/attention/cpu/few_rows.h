// Products of few rows with many: what a query of a cache of keys does. Keys and values are read
// once, as they lie in the user's memory and in its type, and each is on its way into the cache
// while the ones before it are computed with: memory's bandwidth is the limit.
#pragma once

#include <cstdint>

#include "qkv/qkv.h"

namespace qkv::cpu {

// Rows that a product of tiles would not pay for.
inline constexpr int64_t kFewRows = 8;

// Keys that are brought into fp32 at a time where their memory does not serve as it is.
inline constexpr int64_t kFewKeys = 16;

// `keys` rows of `dim` elements, `stride` elements apart. Behind them `ahead` more follow, which
// will be read next: they are only fetched.
struct KeyRows {
  const void* data;
  int64_t stride, keys, dim;
  qkv_type type;
  int64_t ahead;
};

// s[r, j] = q[r] . k[j]: q is [rows, pitch] of fp32, zero past k.dim, pitch a multiple of kLanes;
// rows of s are `width` apart. `copy`: [kFewKeys, pitch], 64-byte aligned.
void few_scores(const float* q, int64_t rows, int64_t pitch, const KeyRows& k, float* s,
                int64_t width, float* copy);

// o[r] += sum over j of p[r, j] v[j], one key after the other: `o` should be a tile's own sum, so
// that the error of many keys does not grow with their number. Rows of p are `width` apart, rows of
// o v.dim. `copy`: [kFewKeys, pitch] with pitch >= v.dim, a multiple of kLanes.
void few_values(const float* p, int64_t rows, int64_t width, const KeyRows& v, float* o,
                int64_t pitch, float* copy);

}  // namespace qkv::cpu
