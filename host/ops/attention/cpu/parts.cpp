#include "host/ops/attention/cpu/parts.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace qkv::cpu {
namespace {

using host::attention::Problem;

bool soft(const Problem& p) { return p.selection == QKV_SELECT_SOFT; }
bool top(const Problem& p) { return p.selection == QKV_SELECT_TOP_K; }

// A part: m [tile_q], then l [tile_q] and O [tile_q, d_v], or the index [tile_q]. Of top-k
// selection the number of keys [tile_q] and these, [tile_q, top_k].
struct Part {
  float* m;
  float* l;
  float* o;
  int64_t* index;
  int64_t* count;
  RankedKey* keys;
};

int64_t aligned_rows(int64_t tile_q) { return round_up(tile_q, kLanes); }

Part part_at(const Problem& p, int64_t tile_q, const std::byte* at) {
  auto* base = const_cast<std::byte*>(at);
  auto* m = reinterpret_cast<float*>(base);
  const int64_t n = aligned_rows(tile_q);
  Part part{};
  if (top(p)) {
    part.count = reinterpret_cast<int64_t*>(base);
    part.keys = reinterpret_cast<RankedKey*>(part.count + n);
    return part;
  }
  part.m = m;
  if (soft(p)) {
    part.l = m + n;
    part.o = m + 2 * n;
  } else {
    part.index = reinterpret_cast<int64_t*>(m + n);
  }
  return part;
}

// m = max m_n, weights e^(m_n - m): parts that saw no key have none.
void merge_soft_row(const Problem& p, int64_t tile_q, int64_t r, const std::byte* parts,
                    int64_t count, const Scratch& scratch) {
  const size_t bytes = part_bytes(p, tile_q);
  const auto part = [&](int64_t n) {
    return part_at(p, tile_q, parts + static_cast<size_t>(n) * bytes);
  };
  float m = -std::numeric_limits<float>::infinity(), l = 0;
  for (int64_t n = 0; n < count; ++n) m = std::max(m, part(n).m[r]);
  float* o = scratch.o + r * p.d_v;
  std::fill_n(o, p.d_v, 0.0f);
  for (int64_t n = 0; n < count; ++n) {
    const Part x = part(n);
    if (x.l[r] == 0) continue;
    const float weight = x.m[r] == m ? 1.0f : std::exp(x.m[r] - m);
    l += weight * x.l[r];
    for (int64_t c = 0; c < p.d_v; ++c) o[c] += weight * x.o[r * p.d_v + c];
  }
  scratch.m[r] = m;
  scratch.l[r] = l;
}

// NaN beats every number, the lowest key wins ties: as running_argmax() over all keys.
void merge_hard_row(const Problem& p, int64_t tile_q, int64_t r, const std::byte* parts,
                    int64_t count, const Scratch& scratch) {
  const size_t bytes = part_bytes(p, tile_q);
  float& m = scratch.m[r];
  m = -std::numeric_limits<float>::infinity();
  scratch.index[r] = -1;
  for (int64_t n = 0; n < count && !std::isnan(m); ++n) {
    const Part x = part_at(p, tile_q, parts + static_cast<size_t>(n) * bytes);
    if (!std::isnan(x.m[r]) && !(x.m[r] > m)) continue;
    m = x.m[r];
    scratch.index[r] = x.index[r];
  }
}

// The k best of each part hold the k best of all.
void merge_top_row(const Problem& p, int64_t tile_q, int64_t r, const std::byte* parts,
                   int64_t count, const Scratch& scratch) {
  const size_t bytes = part_bytes(p, tile_q);
  scratch.top.count[r] = 0;
  for (int64_t n = 0; n < count; ++n) {
    const Part x = part_at(p, tile_q, parts + static_cast<size_t>(n) * bytes);
    for (int64_t i = 0; i < x.count[r]; ++i) scratch.top.keep(r, x.keys[r * p.top_k + i]);
  }
}

}  // namespace

size_t part_bytes(const Problem& p, int64_t tile_q) {
  const auto n = static_cast<size_t>(aligned_rows(tile_q));
  if (top(p)) return n * (sizeof(int64_t) + static_cast<size_t>(p.top_k) * sizeof(RankedKey));
  if (!soft(p)) return n * (sizeof(float) + sizeof(int64_t));
  return sizeof(float) * (2 * n + static_cast<size_t>(round_up(tile_q * p.d_v, kLanes)));
}

void keep_part(const Problem& p, int64_t tile_q, int64_t rows, const Scratch& scratch,
               std::byte* part) {
  const Part to = part_at(p, tile_q, part);
  if (top(p)) {
    for (int64_t r = 0; r < rows; ++r) {
      scratch.top.cut(r);
      to.count[r] = scratch.top.count[r];
      std::copy_n(scratch.top.row(r), to.count[r], to.keys + r * p.top_k);
    }
    return;
  }
  std::copy_n(scratch.m, rows, to.m);
  if (soft(p)) {
    std::copy_n(scratch.l, rows, to.l);
    std::copy_n(scratch.o, rows * p.d_v, to.o);
  } else {
    std::copy_n(scratch.index, rows, to.index);
  }
}

void keep_empty_part(const Problem& p, int64_t tile_q, int64_t rows, std::byte* part) {
  const Part to = part_at(p, tile_q, part);
  if (top(p)) {
    std::fill_n(to.count, rows, int64_t{0});
    return;
  }
  std::fill_n(to.m, rows, -std::numeric_limits<float>::infinity());
  if (soft(p)) {
    std::fill_n(to.l, rows, 0.0f);  // O is not read then
  } else {
    std::fill_n(to.index, rows, int64_t{-1});
  }
}

void merge_parts(const Problem& p, int64_t tile_q, int64_t rows, const std::byte* parts,
                 int64_t count, const Scratch& scratch) {
  for (int64_t r = 0; r < rows; ++r) {
    if (soft(p)) {
      merge_soft_row(p, tile_q, r, parts, count, scratch);
    } else if (top(p)) {
      merge_top_row(p, tile_q, r, parts, count, scratch);
    } else {
      merge_hard_row(p, tile_q, r, parts, count, scratch);
    }
  }
}

}  // namespace qkv::cpu
