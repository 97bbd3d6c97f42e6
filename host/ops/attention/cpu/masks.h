// What the user's bias, slopes and mask do to the scores of a tile. Rows of `s` are tile.width
// apart.
#pragma once

#include "host/ops/attention/cpu/tiles.h"
#include "host/ops/attention/problem.h"

namespace qkv::cpu {

// `row`: [tile.width], for one row of the bias.
void add_bias_tile(const host::attention::Problem& p, const QueryTile& q, const KeyTile& tile,
                   float* s, float* row);

void subtract_alibi_tile(const host::attention::Problem& p, const QueryTile& q, const KeyTile& tile,
                         float* s);

// How much of a tile's keys the mask tensor hides, from all of its rows together.
enum class Hides { kNothing, kSome, kEverything };
Hides mask_hides(const host::attention::Problem& p, const QueryTile& q, const KeyTile& tile);

// Scores of keys that the mask hides become `value`.
void hide_masked(const host::attention::Problem& p, const QueryTile& q, const KeyTile& tile,
                 float* s, float value);

}  // namespace qkv::cpu
