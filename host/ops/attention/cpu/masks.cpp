#include "host/ops/attention/cpu/masks.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "host/core/cpu/convert.h"
#include "host/ops/attention/cpu/scores.h"

namespace qkv::cpu {

using host::attention::Problem;

void add_bias_tile(const Problem& p, const QueryTile& q, const KeyTile& tile, float* s,
                   float* row) {
  const host::View& bias = p.bias;
  const auto* data = static_cast<const std::byte*>(bias.data);
  std::fill_n(row, tile.width, 0.0f);
  int64_t before = 0;
  for (int64_t r = 0; r < q.rows; ++r) {
    const int64_t offset = bias.offset(q.b, q.head(r), q.query(r), tile.first);
    if (std::exchange(before, offset) != offset || r == 0) {
      to_float(data + offset * host::type_size(bias.type), bias.type, bias.stride[3], tile.keys,
               row);
    }
    add_bias(s + r * tile.width, tile.width, row);
  }
}

void subtract_alibi_tile(const Problem& p, const QueryTile& q, const KeyTile& tile, float* s) {
  for (int64_t r = 0; r < q.rows; ++r) {
    const float slope = *p.alibi_slopes.at<float>(q.b, q.head(r), 0);
    const int64_t diagonal = q.query(r) + p.offset(q.length) - tile.first;
    subtract_alibi(s + r * tile.width, tile.width, slope, diagonal);
  }
}

void hide_masked(const Problem& p, const QueryTile& q, const KeyTile& tile, float* s, float value) {
  const host::View& mask = p.mask;
  std::array<uint8_t, kMaxTileKv> visible{};
  visible.fill(1);  // columns past the last key
  const uint8_t* before = nullptr;
  for (int64_t r = 0; r < q.rows; ++r) {
    const auto* row = mask.at<uint8_t>(q.b, q.head(r), q.query(r), tile.first);
    if (std::exchange(before, row) != row) {
      for (int64_t j = 0; j < tile.keys; ++j)
        visible[static_cast<size_t>(j)] = row[j * mask.stride[3]];
    }
    hide(s + r * tile.width, tile.width, visible.data(), value);
  }
}

}  // namespace qkv::cpu
