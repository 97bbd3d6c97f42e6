#include "host/ops/attention/cpu/weights.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include "host/core/cpu/convert.h"

namespace qkv::cpu {
namespace {

void store_row(const host::View& out, const QueryTile& q, int64_t row, int64_t first,
               const float* s, int64_t n) {
  const int64_t offset = out.offset(q.b, q.h, q.first + row, first);
  auto* to = static_cast<std::byte*>(out.data) + offset * host::type_size(out.type);
  from_float(s, n, to, out.type, 1);
}

}  // namespace

float hidden_weight(const host::attention::Problem& p) {
  return p.weights_mode == QKV_WEIGHTS_PROBABILITIES ? 0.0f
                                                     : -std::numeric_limits<float>::infinity();
}

void fill_weights(const host::attention::Problem& p, const QueryTile& q, int64_t begin, int64_t end,
                  float value) {
  std::array<float, 256> values;
  values.fill(value);
  for (int64_t r = 0; r < q.rows; ++r) {
    for (int64_t j = begin; j < end;) {
      const int64_t n = std::min<int64_t>(end - j, std::ssize(values));
      store_row(p.weights, q, r, j, values.data(), n);
      j += n;
    }
  }
}

void store_weights(const host::attention::Problem& p, const QueryTile& q, const KeyTile& tile,
                   const float* s) {
  for (int64_t r = 0; r < q.rows; ++r) {
    store_row(p.weights, q, r, tile.first, s + r * tile.width, tile.keys);
  }
}

void store_chosen(const host::attention::Problem& p, const QueryTile& q, int64_t row,
                  const RankedKey* keys, const float* weights, int64_t count) {
  for (int64_t n = 0; n < count; ++n) store_row(p.weights, q, row, keys[n].key, weights + n, 1);
}

void store_one_hot(const host::attention::Problem& p, const QueryTile& q, const int64_t* index) {
  fill_weights(p, q, 0, p.s_kv, 0.0f);
  const float one = 1.0f;
  for (int64_t r = 0; r < q.rows; ++r) {
    if (index[r] >= 0) store_row(p.weights, q, r, index[r], &one, 1);
  }
}

}  // namespace qkv::cpu
