#include "host/ops/attention/cpu/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "host/core/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/ops/attention/cpu/softmax.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "host/core/cpu/dispatch.h"
#include "host/core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::cpu::HWY_NAMESPACE {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Vectors whose exponentials are computed side by side.
constexpr int kTogether = 4;

// Columns [begin, end) of a row are visible; [first, last) are those rounded out to whole vectors.
struct Span {
  int64_t begin, end, first, last;
};

HWY_INLINE Span VisibleSpan(const ScoreTile& tile, int64_t row) {
  if (tile.begin == nullptr) return {0, tile.width, 0, tile.width};
  const int64_t begin = tile.begin[row], end = tile.end[row];
  if (begin >= end) return {0, 0, 0, 0};
  return {begin, end, begin / kLanes * kLanes, round_up(end, kLanes)};
}

HWY_INLINE float ExpScalar(float x) { return hn::GetLane(Exp(F32(), hn::Set(F32(), x))); }

// Scales the span in place, sets what it holds beyond the visible keys to -inf, returns the
// maximum.
HWY_INLINE float ScaleAndMax(float* HWY_RESTRICT s, const Span& span, float scale) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const V32 factor = hn::Set(d, scale);
  V32 max = hn::Set(d, -kInf);
  if (span.begin == span.first && span.end == span.last) {
    for (int64_t j = span.first; j < span.last; j += step) {
      const V32 x = hn::Mul(hn::Load(d, s + j), factor);
      hn::Store(x, d, s + j);
      max = hn::Max(max, x);
    }
  } else {
    for (int64_t j = span.first; j < span.last; j += step) {
      hn::Store(hn::Mul(hn::Load(d, s + j), factor), d, s + j);
    }
    for (int64_t j = span.first; j < span.begin; ++j) s[j] = -kInf;
    for (int64_t j = span.end; j < span.last; ++j) s[j] = -kInf;
    for (int64_t j = span.first; j < span.last; j += step) max = hn::Max(max, hn::Load(d, s + j));
  }
  return MaxLane(d, max);
}

// The same of the scores as they are, times a scale that is positive: it keeps their order, so that
// the maximum alone need be scaled, to the same bits, and what is hidden already.
HWY_INLINE float ScaledMax(float* HWY_RESTRICT s, const Span& span, float scale) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = span.first; j < span.begin; ++j) s[j] = -kInf;
  for (int64_t j = span.end; j < span.last; ++j) s[j] = -kInf;
  V32 max = hn::Set(d, -kInf);
  for (int64_t j = span.first; j < span.last; j += step) max = hn::Max(max, hn::Load(d, s + j));
  return MaxLane(d, max) * scale;
}

// The ways of computing and storing P, one type each. A NaN in P may get lost here: l has it, and O
// is divided by l.
struct PutF32 {
  using Element = float;
  static constexpr bool kOf16Bits = false;
  static HWY_INLINE void Put(F32 d, V32 p, float* to) { hn::Store(p, d, to); }
};
struct PutF32Of16Bits : PutF32 {
  static constexpr bool kOf16Bits = true;
};
struct PutBf16 {
  using Element = uint16_t;
  static constexpr bool kOf16Bits = true;
  static HWY_INLINE void Put(F32 d, V32 p, uint16_t* to) {
    hn::Store(RoundNumberToBf16(d, p), U16(), to);
  }
};

template <class Element>
HWY_INLINE void Zero(Element* to, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; ++j) to[j] = Element{0};
}

HWY_INLINE void ScaleRow(float* HWY_RESTRICT o, int64_t n, float alpha) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const V32 factor = hn::Set(d, alpha);
  int64_t j = 0;
  for (; j + step <= n; j += step) hn::StoreU(hn::Mul(hn::LoadU(d, o + j), factor), d, o + j);
  for (; j < n; ++j) o[j] *= alpha;
}

// The least positive number that was put in: one less than its bits, so that 0 is the largest.
using LeastPositive = hn::Vec<hn::RebindToUnsigned<F32>>;
HWY_INLINE void PutIn(LeastPositive& least, V32 x) {
  const hn::RebindToUnsigned<F32> du;
  least = hn::Min(least, hn::Sub(hn::BitCast(du, x), hn::Set(du, 1u)));
}

// P of kCount vectors of scores.
template <class Writer, int kCount>
HWY_INLINE void Weigh(const float* s, typename Writer::Element* p, V32 factor, V32 shift, V32& sum,
                      LeastPositive& least) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  V32 x[kCount];
  for (int i = 0; i < kCount; ++i)
    x[i] = hn::Sub(hn::Mul(hn::Load(d, s + i * step), factor), shift);
  Exps<Writer::kOf16Bits>(d, x);
  for (int i = 0; i < kCount; ++i) {
    sum = hn::Add(sum, x[i]);
    PutIn(least, x[i]);
    Writer::Put(d, x[i], p + i * step);
  }
}

template <class Writer>
void OnlineSoftmaxRow(float* s, typename Writer::Element* p, const Span& span, int64_t width,
                      float scale, float* m, float* l, float* o, int64_t d_v,
                      LeastPositive& least) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const bool positive = scale > 0;
  const float tile_m = positive ? ScaledMax(s, span, scale) : ScaleAndMax(s, span, scale);
  const float new_m = tile_m > *m ? tile_m : *m;
  const float alpha = new_m == *m ? 1.0f : ExpScalar(*m - new_m);
  const float shift = new_m == -kInf ? 0.0f : new_m;  // avoids (-inf) - (-inf)

  const V32 shifts = hn::Set(d, shift), factor = hn::Set(d, positive ? scale : 1.0f);
  V32 sum = hn::Zero(d);
  LeastPositive low = least;  // in a register: what P's stores may alias is not
  int64_t j = span.first;
  for (; j + kTogether * step <= span.last; j += kTogether * step)
    Weigh<Writer, kTogether>(s + j, p + j, factor, shifts, sum, low);
  for (; j < span.last; j += step) Weigh<Writer, 1>(s + j, p + j, factor, shifts, sum, low);
  least = low;
  Zero(p, 0, span.first);
  Zero(p, span.last, width);

  *m = new_m;
  *l = *l * alpha + hn::GetLane(hn::SumOfLanes(d, sum));
  if (alpha != 1.0f) ScaleRow(o, d_v, alpha);
}

// A row's share of memory to fetch: a burst as long as the machine's queue of misses, row by row,
// costs nothing beside the row's arithmetic, whereas the products would wait for every line.
HWY_INLINE void Fetch(const Ahead& ahead, int64_t row, int64_t rows) {
  constexpr int64_t kLine = 64;
  const int64_t share = round_up((ahead.bytes + rows - 1) / rows, kLine);
  const auto* from = static_cast<const char*>(ahead.data);
  const int64_t end = std::min(ahead.bytes, (row + 1) * share);
  for (int64_t i = row * share; i < end; i += kLine) __builtin_prefetch(from + i, 0, 2);
}

template <class Writer>
bool OnlineSoftmaxTile(const ScoreTile& tile, typename Writer::Element* p,
                       const SoftmaxState& state) {
  const hn::RebindToUnsigned<F32> du;
  LeastPositive least = hn::Set(du, ~0u);
  for (int64_t r = 0; r < tile.rows; ++r) {
    Fetch(tile.values, r, tile.rows);
    Fetch(tile.keys, r, tile.rows);
    const Span span = VisibleSpan(tile, r);
    OnlineSoftmaxRow<Writer>(tile.s + r * tile.width, p + r * tile.width, span, tile.width,
                             tile.scale, state.m + r, state.l + r, state.o + r * state.d_v,
                             state.d_v, least);
  }
  const auto small = hn::BitCast(du, hn::Set(F32(), 0x1p-64f));
  return !hn::AllFalse(du, hn::Lt(least, small));
}

bool OnlineSoftmax(const ScoreTile& tile, const SoftmaxState& state) {
  if (tile.p16 != nullptr) return OnlineSoftmaxTile<PutBf16>(tile, tile.p16, state);
  return tile.of_16_bits ? OnlineSoftmaxTile<PutF32Of16Bits>(tile, tile.s, state)
                         : OnlineSoftmaxTile<PutF32>(tile, tile.s, state);
}

void Probabilities(const ScoreTile& tile, const SoftmaxState& state) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < tile.rows; ++r) {
    float* s = tile.s + r * tile.width;
    Span span = VisibleSpan(tile, r);
    if (state.l[r] == 0.0f) span = {0, 0, 0, 0};
    (void)ScaleAndMax(s, span, tile.scale);
    const V32 shift = hn::Set(d, state.m[r] == -kInf ? 0.0f : state.m[r]);
    const V32 l = hn::Set(d, state.l[r]);
    for (int64_t j = span.first; j < span.last; j += step) {
      hn::Store(hn::Div(Exp(d, hn::Sub(hn::Load(d, s + j), shift)), l), d, s + j);
    }
    // Not only outside the span: where l is NaN, e^(-inf) / l is NaN as well.
    Zero(s, 0, span.begin);
    Zero(s, span.end, tile.width);
  }
}

HWY_INLINE bool AnyNaN(const float* s, const Span& span) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  auto any = hn::IsNaN(hn::Zero(d));
  for (int64_t j = span.first; j < span.last; j += step) {
    any = hn::Or(any, hn::IsNaN(hn::Load(d, s + j)));
  }
  return !hn::AllFalse(d, any);
}

void RunningArgmax(const ScoreTile& tile, int64_t first_key, float* m, int64_t* index) {
  for (int64_t r = 0; r < tile.rows; ++r) {
    float* s = tile.s + r * tile.width;
    const Span span = VisibleSpan(tile, r);
    const float tile_m = ScaleAndMax(s, span, tile.scale);
    if (std::isnan(m[r])) continue;
    int64_t j = span.begin;
    if (AnyNaN(s, span)) {
      while (!std::isnan(s[j])) ++j;
    } else if (tile_m > m[r]) {
      while (s[j] != tile_m) ++j;
    } else {
      continue;
    }
    m[r] = s[j];
    index[r] = first_key + j;
  }
}

void ExpArray(const float* x, float* y, int64_t n, bool of_16_bits) {
  const F32 d;
  for (int64_t i = 0; i < n; ++i) {
    V32 one[] = {hn::Set(d, x[i])};
    of_16_bits ? Exps<true>(d, one) : Exps<false>(d, one);
    y[i] = hn::GetLane(one[0]);
  }
}

}  // namespace qkv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qkv::cpu {

HWY_EXPORT(OnlineSoftmax);
HWY_EXPORT(Probabilities);
HWY_EXPORT(RunningArgmax);
HWY_EXPORT(ExpArray);

bool online_softmax(const ScoreTile& tile, const SoftmaxState& state) {
  return HWY_DYNAMIC_DISPATCH(OnlineSoftmax)(tile, state);
}

void probabilities(const ScoreTile& tile, const SoftmaxState& state) {
  HWY_DYNAMIC_DISPATCH(Probabilities)(tile, state);
}

void running_argmax(const ScoreTile& tile, int64_t first_key, float* m, int64_t* index) {
  HWY_DYNAMIC_DISPATCH(RunningArgmax)(tile, first_key, m, index);
}

void exp_array(const float* x, float* y, int64_t n, bool of_16_bits) {
  HWY_DYNAMIC_DISPATCH(ExpArray)(x, y, n, of_16_bits);
}

}  // namespace qkv::cpu
#endif  // HWY_ONCE
