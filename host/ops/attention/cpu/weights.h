// The optional weights output, [batch, heads_q, s_q, s_kv] in fp32 or the problem's type.
#pragma once

#include <cstdint>

#include "host/ops/attention/cpu/tiles.h"
#include "host/ops/attention/problem.h"

namespace qkv::cpu {

// What keys that no tile computes have: -inf as a score, 0 as a probability.
float hidden_weight(const host::attention::Problem& p);

// Keys [begin, end) of all rows of a query tile.
void fill_weights(const host::attention::Problem& p, const QueryTile& q, int64_t begin, int64_t end,
                  float value);

// The columns of a key tile; rows of `s` are tile.width apart.
void store_weights(const host::attention::Problem& p, const QueryTile& q, const KeyTile& tile,
                   const float* s);

// Row `row` of top-k selection: weights[n] of its n-th key, 0 of all others.
void store_chosen(const host::attention::Problem& p, const QueryTile& q, int64_t row,
                  const RankedKey* keys, const float* weights, int64_t count);

// One-hot rows of hard selection; all zero where index[r] is -1.
void store_one_hot(const host::attention::Problem& p, const QueryTile& q, const int64_t* index);

}  // namespace qkv::cpu
