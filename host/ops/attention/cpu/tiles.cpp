#include "host/ops/attention/cpu/tiles.h"

#include <cstddef>
#include <cstring>

#include "host/core/cpu/convert.h"

namespace qkv::cpu {
namespace {

// How many rows ahead of its use memory is fetched where rows lie apart, as often on pages of their
// own: the processor does not do so by itself.
constexpr int64_t kFetchRows = 16;

// What begins there is on its way into the cache; it is not read.
void fetch(const std::byte* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at);
}

}  // namespace

QueryTile query_tile(const host::attention::Problem& p, const Policy& policy, int64_t number) {
  const int64_t tile_q = policy.tile_q;
  const int64_t tiles = policy.heads > 1 ? 1 : (p.s_q + tile_q - 1) / tile_q;
  const int64_t head = number / tiles * policy.heads;
  QueryTile q{};
  q.b = head / p.heads_q;
  q.h = head % p.heads_q;
  const int64_t group = p.heads_q / p.heads_kv;
  q.h_kv = q.h / group;
  q.heads = policy.heads;
  q.heads_kv = std::max<int64_t>(q.heads / group, 1);
  q.first = (tiles - 1 - number % tiles) * tile_q;
  q.queries = std::min(tile_q, p.s_q - q.first);
  q.rows = q.heads * q.queries;
  q.length = p.length(q.b);
  return q;
}

KeyRows rows_of(const host::View& x, const QueryTile& q, const KeyTile& tile) {
  const int64_t offset = x.offset(q.b, q.h_kv, tile.first) * host::type_size(x.type);
  return {static_cast<const std::byte*>(x.data) + offset,
          x.stride[2],
          tile.keys,
          x.shape[3],
          x.type,
          q.heads_kv,
          x.stride[1]};
}

const void* dense_tile(const host::View& x, int64_t b, int64_t h, int64_t row, int64_t rows,
                       int64_t height, int64_t width, bool bf16, void* scratch) {
  const int64_t dim = x.shape[3];
  const auto element = static_cast<size_t>(host::type_size(x.type));
  const auto* head = static_cast<const std::byte*>(x.data);
  const auto source = [&](int64_t i) {
    return head + static_cast<size_t>(x.offset(b, h, row + i)) * element;
  };

  const bool same_type = x.type == (bf16 ? QKV_TYPE_BF16 : QKV_TYPE_F32);
  const bool dense = width == dim && (x.stride[2] == dim || rows == 1);
  if (same_type && dense && rows == height) return source(0);

  auto* to = static_cast<std::byte*>(scratch);
  const size_t out_element = bf16 ? sizeof(uint16_t) : sizeof(float);
  const size_t pitch = static_cast<size_t>(width) * out_element;
  const size_t used = static_cast<size_t>(dim) * out_element;
  const bool apart = x.stride[2] != dim;
  const size_t row_bytes = static_cast<size_t>(dim) * element;
  for (int64_t i = 0; i < rows; ++i) {
    if (apart && row + i + kFetchRows < x.shape[2]) fetch(source(i + kFetchRows), row_bytes);
    std::byte* line = to + static_cast<size_t>(i) * pitch;
    if (same_type) {
      std::memcpy(line, source(i), used);
    } else {
      to_float(source(i), x.type, 1, dim, reinterpret_cast<float*>(line));
    }
    std::memset(line + used, 0, pitch - used);
  }
  std::memset(to + static_cast<size_t>(rows) * pitch, 0,
              static_cast<size_t>(height - rows) * pitch);
  return scratch;
}

}  // namespace qkv::cpu
