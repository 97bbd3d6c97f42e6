// Vector pieces shared by the Highway files: exp, tanh, and 16-bit floats in memory. Included once
// per target, as Highway's "-inl.h" files are, hence the toggle instead of #pragma once.
#if defined(QKV_HOST_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QKV_HOST_CPU_SIMD_INL_H_
#undef QKV_HOST_CPU_SIMD_INL_H_
#else
#define QKV_HOST_CPU_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "host/core/cpu/targets.h"
#include "host/core/numeric.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, kLanes>;
using V32 = hn::Vec<F32>;

// What is done to each of kCount vectors before the next is done to any: a processor has few
// instructions in sight that wait, and a long chain of them on one vector alone keeps it waiting.
#define QKV_EACH for (int i = 0; i < kCount; ++i)

// e^r - 1 = r + r^2 q(r) for |r| <= ln(2)/2. q is the minimax polynomial for the relative error of
// e^r, which is 2^-28 before rounding; of one term less, for 16-bit types, 2^-23.
template <int kCount, bool kOf16Bits = false>
HWY_INLINE void ReducedExpm1(F32 d, V32 (&r)[kCount]) {
  V32 q[kCount];
  const auto term = [&](float coefficient) HWY_ATTR {
    const V32 c = hn::Set(d, coefficient);
    QKV_EACH q[i] = hn::MulAdd(q[i], r[i], c);
  };
  if constexpr (kOf16Bits) {
    QKV_EACH q[i] = hn::Set(d, 0x1.10627ep-7f);
    term(0x1.5729fap-5f);
    term(0x1.5557aep-3f);
    term(0x1.fffdfcp-2f);
  } else {
    QKV_EACH q[i] = hn::Set(d, 0x1.6a2352p-10f);
    term(0x1.123a6cp-7f);
    term(0x1.5558f4p-5f);
    term(0x1.555490p-3f);
    term(0x1.fffffcp-2f);
  }
  QKV_EACH q[i] = hn::Mul(q[i], r[i]);
  QKV_EACH r[i] = hn::MulAdd(q[i], r[i], r[i]);
}

// x = n ln(2) + r, in place. Adding 1.5 * 2^23 rounds x / ln(2) to the integer n and leaves
// n + `bias` in the low bits of `power`; shifted into the exponent field they are
// 2^(n + bias - 127). n ln2_high is exact, so that the reduction is also right without a fused
// multiply-add. For 16-bit types ln(2) is one number, whose error times |n| <= 126 is 2^-22;
// without a fused multiply-add n ln(2) errs by 2^-18.
template <int kBias, int kCount, bool kOf16Bits = false>
HWY_INLINE void ReduceByLn2(F32 d, V32 (&x)[kCount], V32 (&power)[kCount]) {
  const hn::RebindToUnsigned<F32> du;
  const V32 magic = hn::Set(d, 0x1.8p23f + static_cast<float>(kBias));
  const V32 log2_e = hn::Set(d, 0x1.715476p+0f);
  V32 n[kCount];
  QKV_EACH power[i] = hn::MulAdd(x[i], log2_e, magic);
  QKV_EACH n[i] = hn::Sub(power[i], magic);
  const auto subtract = [&](float part) HWY_ATTR {
    const V32 by = hn::Set(d, part);
    QKV_EACH x[i] = hn::NegMulAdd(n[i], by, x[i]);
  };
  if constexpr (kOf16Bits) {
    subtract(0x1.62e43p-1f);
  } else {
    subtract(0.693359375f);
    subtract(-0x1.bd0106p-13f);
  }
  QKV_EACH power[i] = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(du, power[i])));
}

// e^x for x <= 0 (and up to 40), in place: at most 1 ulp off, for 16-bit types 2^-21 of it, 2^-17
// without a fused multiply-add. +0 for -inf, 1 for 0, NaN for NaN. Below 2^-126 it is +0:
// arithmetic on subnormal numbers is up to a hundred times slower.
template <bool kOf16Bits, int kCount>
HWY_INLINE void Exps(F32 d, V32 (&x)[kCount]) {
  const V32 least = hn::Set(d, -87.33654f);  // log(2^-126), rounded up
  V32 r[kCount], power[kCount];
  QKV_EACH r[i] = x[i];
  ReduceByLn2<127, kCount, kOf16Bits>(d, r, power);
  ReducedExpm1<kCount, kOf16Bits>(d, r);
  QKV_EACH r[i] = hn::MulAdd(r[i], power[i], power[i]);
  QKV_EACH x[i] = hn::IfThenZeroElse(hn::Lt(x[i], least), r[i]);
}
#undef QKV_EACH

HWY_INLINE V32 Exp(F32 d, V32 x) {
  V32 one[] = {x};
  Exps<false>(d, one);
  return one[0];
}

// tanh(x) = -t / (t + 2) with t = e^(-2|x|) - 1; relative accuracy down to 0 because t is never
// formed as a difference of nearly equal numbers. At most 3 ulp off; +-1 for +-inf, NaN for NaN.
HWY_INLINE V32 Tanh(F32 d, V32 x) {
  const V32 y = hn::Mul(hn::Set(d, -2.0f), hn::Abs(x));
  // Beyond -20 the result is 1 to the last bit, and t must not leave the range of the reduction.
  const V32 limited = hn::IfThenElse(hn::Lt(y, hn::Set(d, -20.0f)), hn::Set(d, -20.0f), y);
  V32 r[] = {limited}, power[1];
  ReduceByLn2<127>(d, r, power);
  ReducedExpm1(d, r);
  const V32 t = hn::MulAdd(r[0], power[0], hn::Sub(power[0], hn::Set(d, 1.0f)));
  return hn::CopySign(hn::Div(t, hn::Add(t, hn::Set(d, 2.0f))), x);
}

// fp32 rounded to nearest even to bf16, as bits. A NaN may become any number.
using U16 = hn::Rebind<uint16_t, F32>;
HWY_INLINE hn::Vec<U16> RoundNumberToBf16([[maybe_unused]] F32 d, V32 x) {
  const hn::RebindToUnsigned<F32> du;
  const auto bits = hn::BitCast(du, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd);
  return hn::TruncateTo(U16(), hn::ShiftRight<16>(rounded));
}

// The same; NaN stays NaN.
HWY_INLINE hn::Vec<U16> RoundToBf16(F32 d, V32 x) {
  const V32 nan = hn::BitCast(d, hn::Set(hn::RebindToUnsigned<F32>(), 0x7fc00000u));
  return RoundNumberToBf16(d, hn::IfThenElse(hn::IsNaN(x), nan, x));
}

HWY_INLINE V32 FromBf16(F32 d, hn::Vec<U16> bits) {
  const hn::RebindToUnsigned<F32> du;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

// The maximum of all lanes. Highway's emulation starts from the lowest finite number, which is
// wrong for -inf.
HWY_INLINE float MaxLane(F32 d, V32 x) {
#if HWY_TARGET == HWY_EMU128
  HWY_ALIGN float lanes[kLanes];
  hn::Store(x, d, lanes);
  float max = lanes[0];
  for (size_t i = 1; i < hn::Lanes(d); ++i) max = lanes[i] > max ? lanes[i] : max;
  return max;
#else
  return hn::GetLane(hn::MaxOfLanes(d, x));
#endif
}

// fp16 by the machine's own conversion where the target has one, else by host/core/numeric.h.
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
HWY_INLINE hn::Vec<U16> RoundToF16(F32 d, V32 x) {
  HWY_ALIGN float in[kLanes];
  HWY_ALIGN uint16_t out[kLanes];
  hn::Store(x, d, in);
  for (size_t i = 0; i < hn::Lanes(d); ++i) out[i] = host::from_float<host::Half>(in[i]).bits;
  return hn::Load(U16(), out);
}
HWY_INLINE V32 FromF16(F32 d, hn::Vec<U16> bits) {
  HWY_ALIGN uint16_t in[kLanes];
  HWY_ALIGN float out[kLanes];
  hn::Store(bits, U16(), in);
  for (size_t i = 0; i < hn::Lanes(d); ++i) out[i] = host::to_float(host::Half{in[i]});
  return hn::Load(d, out);
}
#else
using F16 = hn::Rebind<hwy::float16_t, F32>;
HWY_INLINE hn::Vec<U16> RoundToF16(F32, V32 x) {
  return hn::BitCast(U16(), hn::DemoteTo(F16(), x));
}
HWY_INLINE V32 FromF16(F32 d, hn::Vec<U16> bits) {
  return hn::PromoteTo(d, hn::BitCast(F16(), bits));
}
#endif

}  // namespace qkv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // QKV_HOST_CPU_SIMD_INL_H_
