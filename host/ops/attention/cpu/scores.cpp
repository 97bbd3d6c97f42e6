#include "host/ops/attention/cpu/scores.h"

#include "host/core/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/ops/attention/cpu/scores.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "host/core/cpu/dispatch.h"
#include "host/core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::cpu::HWY_NAMESPACE {

void AdditiveScores(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k,
                    const float* HWY_RESTRICT w, int64_t rows, int64_t keys, int64_t width,
                    int64_t dim, float* HWY_RESTRICT s) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < keys; ++j) {
      V32 sum = hn::Zero(d);
      for (int64_t c = 0; c < dim; c += step) {
        const V32 x = hn::Add(hn::LoadU(d, q + r * dim + c), hn::LoadU(d, k + j * dim + c));
        sum = hn::MulAdd(hn::Load(d, w + c), Tanh(d, x), sum);
      }
      s[r * width + j] = hn::GetLane(hn::SumOfLanes(d, sum));
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
                     int64_t width, int64_t d, float* s) {
  HWY_DYNAMIC_DISPATCH(AdditiveScores)(q, k, w, rows, keys, width, d, s);
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
