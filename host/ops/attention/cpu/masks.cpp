#include "host/ops/attention/cpu/masks.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "host/core/cpu/convert.h"
#include "host/ops/attention/cpu/scores.h"

namespace qkv::cpu {

using host::attention::Problem;

namespace {

// The least and the largest byte of some of the mask: 0 hides a key.
struct MaskBytes {
  uint8_t least = 0xff, most = 0;
};

// Inline, so that the compiler makes vectors of it where the stride is 1.
inline MaskBytes bytes_of(const uint8_t* row, int64_t n, int64_t stride) {
  MaskBytes out;
  for (int64_t j = 0; j < n; ++j) {
    out.least = std::min(out.least, row[j * stride]);
    out.most = std::max(out.most, row[j * stride]);
  }
  return out;
}

// The mask's rows under a tile, one after the other; rows of an axis that is broadcast are read
// once where they follow each other.
class MaskRows {
 public:
  MaskRows(const Problem& p, const QueryTile& q, const KeyTile& tile)
      : mask_(p.mask), q_(q), tile_(tile) {}

  // To row r of the tile. Whether it is another one of the mask than before.
  bool advance(int64_t r) {
    const auto* row = mask_.at<uint8_t>(q_.b, q_.head(r), q_.query(r), tile_.first);
    if (std::exchange(row_, row) == row) return false;
    bytes_ = mask_.stride[3] == 1   ? bytes_of(row, tile_.keys, 1)
             : mask_.stride[3] == 0 ? bytes_of(row, 1, 1)
                                    : bytes_of(row, tile_.keys, mask_.stride[3]);
    return true;
  }

  const MaskBytes& bytes() const { return bytes_; }

  // A byte for each column of the tile: the row itself where its memory has as many, else `padded`,
  // of which no more than the tile's keys are written.
  const uint8_t* whole(uint8_t* padded) const {
    if (mask_.stride[3] == 1 && tile_.keys == tile_.width) return row_;
    for (int64_t j = 0; j < tile_.keys; ++j) padded[j] = row_[j * mask_.stride[3]];
    return padded;
  }

 private:
  const host::View& mask_;
  const QueryTile& q_;
  const KeyTile& tile_;
  const uint8_t* row_ = nullptr;
  MaskBytes bytes_;
};

}  // namespace

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

Hides mask_hides(const Problem& p, const QueryTile& q, const KeyTile& tile) {
  MaskRows rows(p, q, tile);
  MaskBytes all{};
  for (int64_t r = 0; r < q.rows; ++r) {
    if (!rows.advance(r)) continue;
    all.least = std::min(all.least, rows.bytes().least);
    all.most = std::max(all.most, rows.bytes().most);
    if (all.most != 0 && all.least == 0) return Hides::kSome;
  }
  return all.most == 0 ? Hides::kEverything : Hides::kNothing;
}

void hide_masked(const Problem& p, const QueryTile& q, const KeyTile& tile, float* s, float value) {
  MaskRows rows(p, q, tile);
  std::array<uint8_t, kMaxTileKv> padded{};
  padded.fill(1);  // columns past the last key
  const uint8_t* visible = nullptr;
  for (int64_t r = 0; r < q.rows; ++r) {
    if (rows.advance(r)) visible = rows.whole(padded.data());
    if (rows.bytes().least == 0) hide(s + r * tile.width, tile.width, visible, value);
  }
}

}  // namespace qkv::cpu
