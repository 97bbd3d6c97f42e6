#include "host/ops/attention/cpu/few_rows.h"

#include <algorithm>
#include <cstddef>

#include "host/core/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/ops/attention/cpu/few_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "host/core/cpu/dispatch.h"
#include "host/core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::cpu::HWY_NAMESPACE {

// How far ahead of its use memory is fetched: as much as comes from it in its latency.
constexpr int64_t kFetchBytes = 8192;

HWY_INLINE const std::byte* RowAt(const KeyRows& k, int64_t row) {
  const int64_t element = k.type == QKV_TYPE_F32 ? 4 : 2;
  return static_cast<const std::byte*>(k.data) + row * k.stride * element;
}

// Fetches what will be used kFetchBytes after rows [row, row + n): a few lines at a time between
// computations, for a core has few misses under way at once.
HWY_INLINE void Fetch(const KeyRows& k, int64_t row, int64_t n) {
  constexpr int64_t kLine = 64;
  const int64_t bytes = k.dim * (k.type == QKV_TYPE_F32 ? 4 : 2);
  const int64_t later = std::max<int64_t>(1, kFetchBytes / std::max<int64_t>(bytes, 1));
  const int64_t end = std::min(row + n + later, k.keys + k.ahead);
  for (int64_t j = row + later; j < end; ++j) {
    const auto* from = reinterpret_cast<const char*>(RowAt(k, j));
    for (int64_t i = 0; i < bytes; i += kLine) __builtin_prefetch(from + i, 0, 3);
  }
}

template <class Load>
HWY_INLINE void WidenTo(const std::byte* row, int64_t dim, float* to, const Load& load) {
  const auto* from = reinterpret_cast<const uint16_t*>(row);
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + step <= dim; i += step) hn::StoreU(load(hn::LoadU(U16(), from + i)), d, to + i);
  if (i == dim) return;
  HWY_ALIGN uint16_t last[kLanes] = {};
  std::copy(from + i, from + dim, last);
  hn::StoreU(load(hn::Load(U16(), last)), d, to + i);
}

// Rows [row, row + n) as fp32, `pitch` apart, zero from k.dim to the next whole vector: in place,
// or in `copy`; `fetched` says whether what comes later has been fetched meanwhile.
struct FloatRows {
  const float* data;
  int64_t pitch;
  bool fetched = false;
};
HWY_INLINE FloatRows AsFloats(const KeyRows& k, int64_t row, int64_t n, float* copy,
                              int64_t pitch) {
  const F32 d;
  if (k.type == QKV_TYPE_F32 && k.dim % static_cast<int64_t>(hn::Lanes(d)) == 0)
    return {reinterpret_cast<const float*>(RowAt(k, row)), k.stride};
  for (int64_t j = 0; j < n; ++j) {
    Fetch(k, row + j, 1);
    const std::byte* from = RowAt(k, row + j);
    float* to = copy + j * pitch;
    if (k.type == QKV_TYPE_BF16) {
      WidenTo(from, k.dim, to, [d](auto bits) HWY_ATTR { return FromBf16(d, bits); });
    } else if (k.type == QKV_TYPE_F16) {
      WidenTo(from, k.dim, to, [d](auto bits) HWY_ATTR { return FromF16(d, bits); });
    } else {
      std::copy_n(reinterpret_cast<const float*>(from), k.dim, to);
      std::fill(to + k.dim, to + round_up(k.dim, static_cast<int64_t>(hn::Lanes(d))), 0.0f);
    }
  }
  return {copy, pitch, true};
}

// s[0..kKeys) = q . k[j], `dim` up to the next whole vector.
template <int kKeys>
HWY_INLINE void Dots(const float* HWY_RESTRICT q, const FloatRows& k, int64_t dim,
                     float* HWY_RESTRICT s) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const float* HWY_RESTRICT row = k.data;
  V32 a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  for (int64_t c = 0; c < dim; c += step) {
    const V32 x = hn::LoadU(d, q + c);
    a0 = hn::MulAdd(x, hn::LoadU(d, row + c), a0);
    if constexpr (kKeys > 1) {
      a1 = hn::MulAdd(x, hn::LoadU(d, row + k.pitch + c), a1);
      a2 = hn::MulAdd(x, hn::LoadU(d, row + 2 * k.pitch + c), a2);
      a3 = hn::MulAdd(x, hn::LoadU(d, row + 3 * k.pitch + c), a3);
    }
  }
  s[0] = hn::GetLane(hn::SumOfLanes(d, a0));
  if constexpr (kKeys > 1) {
    s[1] = hn::GetLane(hn::SumOfLanes(d, a1));
    s[2] = hn::GetLane(hn::SumOfLanes(d, a2));
    s[3] = hn::GetLane(hn::SumOfLanes(d, a3));
  }
}

void FewScores(const float* q, int64_t rows, int64_t pitch, const KeyRows& k, float* s,
               int64_t width, float* copy) {
  for (int64_t j = 0; j < k.keys; j += kFewKeys) {
    const int64_t n = std::min(kFewKeys, k.keys - j);
    const FloatRows block = AsFloats(k, j, n, copy, pitch);
    for (int64_t r = 0; r < rows; ++r) {
      float* to = s + r * width + j;
      const bool fetch = r == 0 && !block.fetched;
      for (int64_t i = 0; i < n;) {
        const FloatRows rest{block.data + i * block.pitch, block.pitch};
        const int64_t keys = n - i >= 4 ? 4 : 1;
        if (fetch) Fetch(k, j + i, keys);
        keys == 4 ? Dots<4>(q + r * pitch, rest, k.dim, to + i)
                  : Dots<1>(q + r * pitch, rest, k.dim, to + i);
        i += keys;
      }
    }
  }
}

// kVectors vectors of columns of kRows rows of O, over n keys.
template <int kRows, int kVectors>
HWY_INLINE void AddValues(const float* HWY_RESTRICT p, int64_t width, const FloatRows& v, int64_t n,
                          float* HWY_RESTRICT o, int64_t o_pitch) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  V32 sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kVectors; ++i) sum[r][i] = hn::LoadU(d, o + r * o_pitch + i * step);
  for (int64_t j = 0; j < n; ++j) {
    V32 x[kVectors];
    for (int i = 0; i < kVectors; ++i) x[i] = hn::LoadU(d, v.data + j * v.pitch + i * step);
    for (int r = 0; r < kRows; ++r) {
      const V32 weight = hn::Set(d, p[r * width + j]);
      for (int i = 0; i < kVectors; ++i) sum[r][i] = hn::MulAdd(weight, x[i], sum[r][i]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kVectors; ++i) hn::StoreU(sum[r][i], d, o + r * o_pitch + i * step);
}
template <int kVectors>
HWY_INLINE void AddRowsOfValues(const float* p, int64_t rows, int64_t width, const FloatRows& v,
                                int64_t n, float* o, int64_t o_pitch) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4)
    AddValues<4, kVectors>(p + r * width, width, v, n, o + r * o_pitch, o_pitch);
  for (; r < rows; ++r)
    AddValues<1, kVectors>(p + r * width, width, v, n, o + r * o_pitch, o_pitch);
}

// The columns that are left: fewer than a vector.
HWY_INLINE void AddLastValues(const float* p, const FloatRows& v, int64_t n, int64_t columns,
                              float* o) {
  for (int64_t c = 0; c < columns; ++c) {
    float sum = o[c];
    for (int64_t j = 0; j < n; ++j) sum += p[j] * v.data[j * v.pitch + c];
    o[c] = sum;
  }
}

void FewValues(const float* p, int64_t rows, int64_t width, const KeyRows& v, float* o,
               int64_t pitch, float* copy) {
  const auto pair = 2 * static_cast<int64_t>(hn::Lanes(F32()));
  for (int64_t j = 0; j < v.keys; j += kFewKeys) {
    const int64_t n = std::min(kFewKeys, v.keys - j);
    const FloatRows block = AsFloats(v, j, n, copy, pitch);
    int64_t c = 0, fetched = block.fetched ? n : 0;
    for (; c + pair <= v.dim; c += pair) {
      const int64_t share = std::max<int64_t>(0, n * (c + pair) / v.dim - fetched);
      Fetch(v, j + fetched, share);
      fetched += share;
      AddRowsOfValues<2>(p + j, rows, width, {block.data + c, block.pitch}, n, o + c, v.dim);
    }
    if (c + pair / 2 <= v.dim) {
      AddRowsOfValues<1>(p + j, rows, width, {block.data + c, block.pitch}, n, o + c, v.dim);
      c += pair / 2;
    }
    if (c == v.dim) continue;
    for (int64_t r = 0; r < rows; ++r)
      AddLastValues(p + r * width + j, {block.data + c, block.pitch}, n, v.dim - c,
                    o + r * v.dim + c);
  }
}

}  // namespace qkv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qkv::cpu {

HWY_EXPORT(FewScores);
HWY_EXPORT(FewValues);

void few_scores(const float* q, int64_t rows, int64_t pitch, const KeyRows& k, float* s,
                int64_t width, float* copy) {
  HWY_DYNAMIC_DISPATCH(FewScores)(q, rows, pitch, k, s, width, copy);
}

void few_values(const float* p, int64_t rows, int64_t width, const KeyRows& v, float* o,
                int64_t pitch, float* copy) {
  HWY_DYNAMIC_DISPATCH(FewValues)(p, rows, width, v, o, pitch, copy);
}

}  // namespace qkv::cpu
#endif  // HWY_ONCE
