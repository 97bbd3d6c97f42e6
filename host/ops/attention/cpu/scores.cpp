#include "host/ops/attention/cpu/scores.h"

#include <algorithm>
#include <cmath>

#include "host/core/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/ops/attention/cpu/scores.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "host/core/cpu/dispatch.h"
#include "host/core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::cpu::HWY_NAMESPACE {

// Additive scores as sums of fractions, tanh(x) = 1 - 2 / (1 + e^(2 x)): the exponential is that of
// q times that of k, neither of which overflows in this range, nor does their product. Four
// fractions make one division; their denominators are cut off where tanh is 1 in fp32, so that the
// product of four is below 2^120. tanh errs by at most 2^-21 so: e^(2 x) by 2^-22 of it, which is
// 2^-23 of 1 where it counts most, and the fractions by some roundings.
inline constexpr float kRationalRange = 20, kMostDenominator = 0x1p30f, kMostWeight = 0x1p30f;
inline constexpr int64_t kBlockKeys = kLanes;
inline constexpr uint32_t kAllInRange = (1u << kBlockKeys) - 1;

// w . tanh(q + k) by tanh itself.
float ScoreByTanh(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k,
                  const float* HWY_RESTRICT w, int64_t dim) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  V32 sum = hn::Zero(d);
  for (int64_t c = 0; c < dim; c += step) {
    const V32 x = hn::Add(hn::LoadU(d, q + c), hn::LoadU(d, k + c));
    sum = hn::MulAdd(hn::Load(d, w + c), Tanh(d, x), sum);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// out[c] = e^(2 x[c]), and whether all of them are in range; where not, all are 1.
bool DoubleExps(const float* HWY_RESTRICT x, int64_t dim, float* HWY_RESTRICT out) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const V32 most = hn::Set(d, kRationalRange);
  for (int64_t c = 0; c < dim; c += step) {
    const V32 at = hn::LoadU(d, x + c);
    // NaN is not in range.
    if (!hn::AllTrue(d, hn::Le(hn::Abs(at), most))) {
      std::fill_n(out, dim, 1.0f);
      return false;
    }
    hn::Store(Exp(d, hn::Add(at, at)), d, out + c);
  }
  return true;
}

// sum[i] += the terms w / (1 + e^(2 (q + k))) of 4 dims, for kBlockKeys keys: over one denominator,
// the product of the four. kVectors of keys, so that divisions do not wait for each other.
template <int kVectors>
HWY_INLINE void AddFourDims(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k,
                            const float* HWY_RESTRICT w, V32 (&sum)[kVectors]) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const V32 one = hn::Set(d, 1.0f), most = hn::Set(d, kMostDenominator);
  for (int i = 0; i < kVectors; ++i) {
    const auto denominator = [&](int64_t c) HWY_ATTR {
      const V32 by_key = hn::Load(d, k + c * kBlockKeys + i * step);
      return hn::Min(hn::MulAdd(hn::Set(d, q[c]), by_key, one), most);
    };
    const V32 a = denominator(0), b = denominator(1), c = denominator(2), e = denominator(3);
    const V32 ab = hn::Mul(a, b), ce = hn::Mul(c, e);
    const V32 of_ab = hn::MulAdd(hn::Set(d, w[0]), b, hn::Mul(hn::Set(d, w[1]), a));
    const V32 of_ce = hn::MulAdd(hn::Set(d, w[2]), e, hn::Mul(hn::Set(d, w[3]), c));
    const V32 of_all = hn::MulAdd(of_ab, ce, hn::Mul(of_ce, ab));
    sum[i] = hn::Add(sum[i], hn::Div(of_all, hn::Mul(ab, ce)));
  }
}

// The scores of kVectors of keys and one row: sum w tanh = sum w - 2 sum w / (1 + e^(2 (q + k))).
template <int kVectors>
HWY_INLINE void RationalScores(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k,
                               const float* HWY_RESTRICT w, float sum_w, int64_t dim,
                               float* HWY_RESTRICT s) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  V32 sum[kVectors];
  for (V32& each : sum) each = hn::Zero(d);
  for (int64_t c = 0; c < dim; c += 4) AddFourDims(q + c, k + c * kBlockKeys, w + c, sum);
  const V32 all = hn::Set(d, sum_w), minus_two = hn::Set(d, -2.0f);
  for (int i = 0; i < kVectors; ++i) hn::Store(hn::MulAdd(sum[i], minus_two, all), d, s + i * step);
}

// A block's exponentials, [dim, kBlockKeys]; bit n of the result: key n is in range.
uint32_t KeyExps(const float* HWY_RESTRICT k, int64_t dim, float* HWY_RESTRICT line,
                 float* HWY_RESTRICT out) {
  uint32_t in_range = 0;
  for (int64_t n = 0; n < kBlockKeys; ++n) {
    if (DoubleExps(k + n * dim, dim, line)) in_range |= 1u << n;
    for (int64_t c = 0; c < dim; ++c) out[c * kBlockKeys + n] = line[c];
  }
  return in_range;
}

void AdditiveScores(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k,
                    const float* HWY_RESTRICT w, int64_t rows, int64_t keys, int64_t dim,
                    float* HWY_RESTRICT s, float* HWY_RESTRICT scratch) {
  constexpr int kVectors = hn::MaxLanes(F32()) * 2 <= kBlockKeys ? 2 : 1;
  const auto step = static_cast<int64_t>(hn::Lanes(F32())) * kVectors;
  float *line = scratch, *key_exps = line + dim, *row_exps = key_exps + dim * kBlockKeys;
  float* row_in_range = row_exps + rows * dim;
  bool small = true;
  float sum_w = 0;
  for (int64_t c = 0; c < dim; ++c) {
    small = small && std::abs(w[c]) <= kMostWeight;
    sum_w += w[c];
  }
  for (int64_t r = 0; r < rows; ++r)
    row_in_range[r] = small && DoubleExps(q + r * dim, dim, row_exps + r * dim) ? 1.0f : 0.0f;
  for (int64_t j = 0; j < keys; j += kBlockKeys) {
    const uint32_t in_range = KeyExps(k + j * dim, dim, line, key_exps);
    for (int64_t r = 0; r < rows; ++r) {
      const bool rational = row_in_range[r] != 0;
      float* at = s + r * keys + j;
      for (int64_t n = 0; rational && n < kBlockKeys; n += step)
        RationalScores<kVectors>(row_exps + r * dim, key_exps + n, w, sum_w, dim, at + n);
      if (rational && in_range == kAllInRange) continue;
      for (int64_t n = 0; n < kBlockKeys; ++n)
        if (!rational || (in_range >> n & 1) == 0)
          at[n] = ScoreByTanh(q + r * dim, k + (j + n) * dim, w, dim);
    }
  }
}

// s[j] = f(s[j], j) a vector at a time.
template <class F>
HWY_INLINE void Transform(float* HWY_RESTRICT s, int64_t n, const F& f) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < n; j += step) hn::Store(f(hn::Load(d, s + j), j), d, s + j);
}

void Scale(float* s, int64_t n, float factor) {
  const V32 by = hn::Set(F32(), factor);
  Transform(s, n, [&](V32 x, int64_t) HWY_ATTR { return hn::Mul(x, by); });
}

void Softcap(float* s, int64_t n, float cap) {
  const F32 d;
  const V32 c = hn::Set(d, cap);
  Transform(s, n, [&](V32 x, int64_t) HWY_ATTR { return hn::Mul(c, Tanh(d, hn::Div(x, c))); });
}

void AddBias(float* s, int64_t n, const float* HWY_RESTRICT bias) {
  Transform(s, n, [&](V32 x, int64_t j) HWY_ATTR { return hn::Add(x, hn::Load(F32(), bias + j)); });
}

void SubtractAlibi(float* s, int64_t n, float slope, int64_t diagonal) {
  const F32 d;
  const V32 by = hn::Set(d, slope);
  const V32 lane = hn::ConvertTo(d, hn::Iota(hn::RebindToSigned<F32>(), 0));
  Transform(s, n, [&](V32 x, int64_t j) HWY_ATTR {
    // Exact below 2^24; above, as exact as the distance is as a float.
    const V32 distance = hn::Sub(hn::Set(d, static_cast<float>(diagonal - j)), lane);
    return hn::NegMulAdd(by, hn::Abs(distance), x);
  });
}

void Hide(float* s, int64_t n, const uint8_t* HWY_RESTRICT visible, float value) {
  const F32 d;
  const hn::RebindToUnsigned<F32> du;
  const hn::Rebind<uint8_t, F32> du8;
  const V32 hidden = hn::Set(d, value);
  Transform(s, n, [&](V32 x, int64_t j) HWY_ATTR {
    const auto flag = hn::PromoteTo(du, hn::LoadU(du8, visible + j));
    return hn::IfThenElse(hn::RebindMask(d, hn::Eq(flag, hn::Zero(du))), hidden, x);
  });
}

void TanhArray(const float* x, float* y, int64_t n) {
  const F32 d;
  for (int64_t i = 0; i < n; ++i) y[i] = hn::GetLane(Tanh(d, hn::Set(d, x[i])));
}

}  // namespace qkv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qkv::cpu {

HWY_EXPORT(AdditiveScores);
HWY_EXPORT(Scale);
HWY_EXPORT(Softcap);
HWY_EXPORT(AddBias);
HWY_EXPORT(SubtractAlibi);
HWY_EXPORT(Hide);
HWY_EXPORT(TanhArray);

void additive_scores(const float* q, const float* k, const float* w, int64_t rows, int64_t keys,
                     int64_t d, float* s, std::byte* scratch) {
  HWY_DYNAMIC_DISPATCH(AdditiveScores)
  (q, k, w, rows, keys, d, s, reinterpret_cast<float*>(scratch));
}

void scale(float* s, int64_t n, float factor) { HWY_DYNAMIC_DISPATCH(Scale)(s, n, factor); }

void softcap(float* s, int64_t n, float cap) { HWY_DYNAMIC_DISPATCH(Softcap)(s, n, cap); }

void add_bias(float* s, int64_t n, const float* bias) { HWY_DYNAMIC_DISPATCH(AddBias)(s, n, bias); }

void subtract_alibi(float* s, int64_t n, float slope, int64_t diagonal) {
  HWY_DYNAMIC_DISPATCH(SubtractAlibi)(s, n, slope, diagonal);
}

void hide(float* s, int64_t n, const uint8_t* visible, float value) {
  HWY_DYNAMIC_DISPATCH(Hide)(s, n, visible, value);
}

void tanh_array(const float* x, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(TanhArray)(x, y, n); }

}  // namespace qkv::cpu
#endif  // HWY_ONCE
