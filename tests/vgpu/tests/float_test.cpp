// PTX ISA 9.0 sections 9.7.3 to 9.7.7 against host arithmetic, through formats of the test's own.
#include <cfenv>
#include <cmath>

#include "tests/forms.h"

namespace vgpu::test {
namespace {

double flushed(double v) { return std::fabs(v) < 0x1p-126 ? std::copysign(0.0, v) : v; }
float flushed(float v) { return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v; }

template <class F>
u64 rounded(int mode, F f) {
  std::fesetround(mode);
  volatile auto r = f();
  std::fesetround(FE_TONEAREST);
  return raw(decltype(f()){r});
}
// Arithmetic that the compiler cannot move past the rounding mode.
template <class V>
V add(V a, V b) {
  volatile V x = a, y = b;
  return x + y;
}
template <class V>
V mul(V a, V b) {
  volatile V x = a, y = b;
  return x * y;
}
template <class V>
V quotient(V a, V b) {
  volatile V x = a, y = b;
  return x / y;
}
template <class V>
V fma3(V a, V b, V c) {
  volatile V x = a, y = b, z = c;
  return std::fma(V{x}, V{y}, V{z});
}
template <class V>
V smaller(V a, V b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == 0 && b == 0) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
template <class V>
V larger(V a, V b) {
  return -smaller<V>(-a, -b);
}

const std::vector<Form> kFloatForms = {
    {"add.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return raw(add(f32(v[0]), f32(v[1]))); }},
    {"add.ftz.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return raw(flushed(add(flushed(f32(v[0])), flushed(f32(v[1]))))); }},
    {"add.rz.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) {
       return rounded(FE_TOWARDZERO, [&] { return add(f32(v[0]), f32(v[1])); });
     }},
    {"add.rm.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return rounded(FE_DOWNWARD, [&] { return add(f32(v[0]), f32(v[1])); }); }},
    {"add.sat.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) {
       const float r = f32(v[0]) + f32(v[1]);
       return raw(r != r ? 0.0f : r < 0 ? 0.0f : r > 1 ? 1.0f : r + 0.0f);
     }},
    {"sub.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return raw(add(f32(v[0]), -f32(v[1]))); }},
    {"mul.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return raw(mul(f32(v[0]), f32(v[1]))); }},
    {"mul.rp.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return rounded(FE_UPWARD, [&] { return mul(f32(v[0]), f32(v[1])); }); }},
    {"mul.ftz.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return raw(flushed(mul(flushed(f32(v[0])), flushed(f32(v[1]))))); }},
    {"fma.rn.f32",
     T::f32,
     {T::f32, T::f32, T::f32},
     [](const u64* v) { return raw(fma3(f32(v[0]), f32(v[1]), f32(v[2]))); }},
    {"fma.rz.f32",
     T::f32,
     {T::f32, T::f32, T::f32},
     [](const u64* v) {
       return rounded(FE_TOWARDZERO, [&] { return fma3(f32(v[0]), f32(v[1]), f32(v[2])); });
     }},
    {"div.rn.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return raw(quotient(f32(v[0]), f32(v[1]))); }},
    {"div.rm.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) {
       return rounded(FE_DOWNWARD, [&] { return quotient(f32(v[0]), f32(v[1])); });
     }},
    {"rcp.rn.f32", T::f32, {T::f32}, [](const u64* v) { return raw(quotient(1.0f, f32(v[0]))); }},
    {"sqrt.rn.f32", T::f32, {T::f32}, [](const u64* v) { return raw(std::sqrt(f32(v[0]))); }},
    {"add.f64",
     T::f64,
     {T::f64, T::f64},
     [](const u64* v) { return raw(add(f64(v[0]), f64(v[1]))); }},
    {"mul.f64",
     T::f64,
     {T::f64, T::f64},
     [](const u64* v) { return raw(mul(f64(v[0]), f64(v[1]))); }},
    {"fma.rn.f64",
     T::f64,
     {T::f64, T::f64, T::f64},
     [](const u64* v) { return raw(fma3(f64(v[0]), f64(v[1]), f64(v[2]))); }},
    {"div.rn.f64",
     T::f64,
     {T::f64, T::f64},
     [](const u64* v) { return raw(quotient(f64(v[0]), f64(v[1]))); }},
    {"sqrt.rn.f64", T::f64, {T::f64}, [](const u64* v) { return raw(std::sqrt(f64(v[0]))); }},
    {"min.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return raw(smaller(f32(v[0]), f32(v[1]))); }},
    {"max.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return raw(larger(f32(v[0]), f32(v[1]))); }},
    {"max.f64",
     T::f64,
     {T::f64, T::f64},
     [](const u64* v) { return raw(larger(f64(v[0]), f64(v[1]))); }},
    {"min.NaN.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) {
       const float a = f32(v[0]), b = f32(v[1]);
       return a != a || b != b ? u64{0x7fffffff} : raw(smaller(a, b));
     },
     0,
     0,
     80},
    {"abs.f32", T::f32, {T::f32}, [](const u64* v) { return raw(std::fabs(f32(v[0]))); }},
    {"neg.f64", T::f64, {T::f64}, [](const u64* v) { return v[0] ^ u64 { 1 } << 63; }},
    {"neg.ftz.f32", T::f32, {T::f32}, [](const u64* v) { return raw(-flushed(f32(v[0]))); }},
    {"copysign.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return (v[0] & 0x80000000) | (v[1] & 0x7fffffff); }},
    {"testp.finite.f32",
     T::pred,
     {T::f32},
     [](const u64* v) { return u64{std::isfinite(f32(v[0]))}; }},
    {"testp.subnormal.f64",
     T::pred,
     {T::f64},
     [](const u64* v) { return u64{std::fpclassify(f64(v[0])) == FP_SUBNORMAL}; }},
    {"setp.lt.f32",
     T::pred,
     {T::f32, T::f32},
     [](const u64* v) { return u64{f32(v[0]) < f32(v[1])}; }},
    {"setp.neu.f32",
     T::pred,
     {T::f32, T::f32},
     [](const u64* v) { return u64{f32(v[0]) != f32(v[1])}; }},
    {"setp.ne.f32",
     T::pred,
     {T::f32, T::f32},
     [](const u64* v) {
       const float a = f32(v[0]), b = f32(v[1]);
       return u64{a == a && b == b && a != b};
     }},
    {"setp.geu.f64",
     T::pred,
     {T::f64, T::f64},
     [](const u64* v) { return u64{!(f64(v[0]) < f64(v[1]))}; }},
    {"setp.num.f32",
     T::pred,
     {T::f32, T::f32},
     [](const u64* v) { return u64{!std::isnan(f32(v[0])) && !std::isnan(f32(v[1]))}; }},
    {"setp.eq.ftz.f32",
     T::pred,
     {T::f32, T::f32},
     [](const u64* v) { return u64{flushed(f32(v[0])) == flushed(f32(v[1]))}; }},
    {"set.gt.f32.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return f32(v[0]) > f32(v[1]) ? u64{0x3f800000} : 0; }},
};
VGPU_FORMS(Float, kFloatForms);

// Bounds from the ISA's tables of maximum errors.
const std::vector<Form> kApproximationForms = {
    {"ex2.approx.f32",
     T::f32,
     {T::f32},
     [](const u64* v) { return raw(static_cast<float>(std::exp2(double{f32(v[0])}))); },
     2},
    {"ex2.approx.ftz.f32",
     T::f32,
     {T::f32},
     [](const u64* v) {
       return raw(static_cast<float>(flushed(std::exp2(double{flushed(f32(v[0]))}))));
     },
     2,
     0x1p-126},
    {"rcp.approx.ftz.f32",
     T::f32,
     {T::f32},
     [](const u64* v) { return raw(static_cast<float>(flushed(1.0 / flushed(f32(v[0]))))); },
     1},
    {"rsqrt.approx.f32",
     T::f32,
     {T::f32},
     [](const u64* v) { return raw(static_cast<float>(1.0 / std::sqrt(double{f32(v[0])}))); },
     4},
    {"sqrt.approx.f32",
     T::f32,
     {T::f32},
     [](const u64* v) { return raw(std::sqrt(f32(v[0]))); },
     3},
    {"lg2.approx.f32",
     T::f32,
     {T::f32},
     [](const u64* v) { return raw(static_cast<float>(std::log2(double{f32(v[0])}))); },
     2,
     0x1p-22},
    {"tanh.approx.f32",
     T::f32,
     {T::f32},
     [](const u64* v) { return raw(static_cast<float>(std::tanh(double{f32(v[0])}))); },
     0,
     0x1p-10},
    {"div.full.f32",
     T::f32,
     {T::f32, T::f32},
     [](const u64* v) { return raw(quotient(f32(v[0]), f32(v[1]))); },
     2,
     0x1p-126},
};
VGPU_FORMS(Approximation, kApproximationForms);

u64 half2(const u64* v, int n, u64 (*near)(double), double (*value)(u64),
          const std::function<double(double, double, double)>& f) {
  u64 out = 0;
  for (int i = 0; i < 32; i += 16) {
    double x[3] = {};
    for (int j = 0; j < n; ++j) x[j] = value(v[j] >> i & 0xffff);
    out |= near(f(x[0], x[1], x[2])) << i;
  }
  return out;
}
// The product of two 16-bit floats is exact; the sum is bracketed by rounding it down and up, and
// of the two the one with an odd last bit keeps every tie a non-tie.
double half_fma(double a, double b, double c) {
  const double product = a * b;
  std::fesetround(FE_DOWNWARD);
  const double low = add(product, c);
  std::fesetround(FE_UPWARD);
  const double high = add(product, c);
  std::fesetround(FE_TONEAREST);
  if (low == high || low != low || high != high) return add(product, c);
  return (raw(low) & 1) != 0 ? low : high;
}

const std::vector<Form> kHalfForms = {
    {"add.f16",
     T::f16,
     {T::f16, T::f16},
     [](const u64* v) { return nearest_half(half_value(v[0]) + half_value(v[1])); }},
    {"sub.f16",
     T::f16,
     {T::f16, T::f16},
     [](const u64* v) { return nearest_half(half_value(v[0]) - half_value(v[1])); }},
    {"mul.f16",
     T::f16,
     {T::f16, T::f16},
     [](const u64* v) { return nearest_half(half_value(v[0]) * half_value(v[1])); }},
    {"fma.rn.f16",
     T::f16,
     {T::f16, T::f16, T::f16},
     [](const u64* v) {
       return nearest_half(half_fma(half_value(v[0]), half_value(v[1]), half_value(v[2])));
     }},
    {"fma.rn.relu.f16",
     T::f16,
     {T::f16, T::f16, T::f16},
     [](const u64* v) {
       const double r = half_fma(half_value(v[0]), half_value(v[1]), half_value(v[2]));
       return r <= 0 ? 0 : nearest_half(r);
     },
     0,
     0,
     80},
    {"fma.rn.bf16",
     T::bf16,
     {T::bf16, T::bf16, T::bf16},
     [](const u64* v) {
       return nearest_bf16(half_fma(bf16_value(v[0]), bf16_value(v[1]), bf16_value(v[2])));
     },
     0,
     0,
     80},
    {"min.f16",
     T::f16,
     {T::f16, T::f16},
     [](const u64* v) { return nearest_half(smaller(half_value(v[0]), half_value(v[1]))); },
     0,
     0,
     80},
    {"max.bf16",
     T::bf16,
     {T::bf16, T::bf16},
     [](const u64* v) { return nearest_bf16(larger(bf16_value(v[0]), bf16_value(v[1]))); },
     0,
     0,
     80},
    {"neg.f16", T::f16, {T::f16}, [](const u64* v) { return v[0] ^ 0x8000; }},
    {"setp.lt.f16",
     T::pred,
     {T::f16, T::f16},
     [](const u64* v) { return u64{half_value(v[0]) < half_value(v[1])}; }},
    {"setp.gtu.bf16",
     T::pred,
     {T::bf16, T::bf16},
     [](const u64* v) { return u64{!(bf16_value(v[0]) <= bf16_value(v[1]))}; },
     0,
     0,
     90},
    {"ex2.approx.f16",
     T::f16,
     {T::f16},
     [](const u64* v) { return nearest_half(std::exp2(half_value(v[0]))); },
     2,
     0x1p-24},
    {"tanh.approx.f16",
     T::f16,
     {T::f16},
     [](const u64* v) { return nearest_half(std::tanh(half_value(v[0]))); },
     0,
     0x1p-10},
};
VGPU_FORMS(Half, kHalfForms);

// Packed forms, with the NaNs of each half made equal before they are compared.
u64 tidy(u64 v, u64 infinity) {
  for (int i = 0; i < 32; i += 16)
    if ((v >> i & 0x7fff) > infinity) v = (v & ~(u64{0xffff} << i)) | u64{0x7fff} << i;
  return v;
}
const std::vector<Form> kPackedForms = {
    {"fma.rn.f16x2",
     T::f16x2,
     {T::f16x2, T::f16x2, T::f16x2},
     [](const u64* v) { return tidy(half2(v, 3, nearest_half, half_value, half_fma), 0x7c00); }},
    {"add.f16x2",
     T::f16x2,
     {T::f16x2, T::f16x2},
     [](const u64* v) {
       return tidy(
           half2(v, 2, nearest_half, half_value, [](double a, double b, double) { return a + b; }),
           0x7c00);
     }},
    {"mul.f16x2",
     T::f16x2,
     {T::f16x2, T::f16x2},
     [](const u64* v) {
       return tidy(
           half2(v, 2, nearest_half, half_value, [](double a, double b, double) { return a * b; }),
           0x7c00);
     }},
    {"fma.rn.bf16x2",
     T::bf16x2,
     {T::bf16x2, T::bf16x2, T::bf16x2},
     [](const u64* v) { return tidy(half2(v, 3, nearest_bf16, bf16_value, half_fma), 0x7f80); },
     0,
     0,
     80},
};
VGPU_FORMS(Packed, kPackedForms);

// Float to integer by comparison with the limits.
template <class V>
u64 to_integer(double v, double low, double high, V at_low, V at_high, u64 nan,
               double (*round)(double)) {
  if (v != v) return nan;
  v = round(v);
  if (v <= low) return static_cast<u64>(at_low);
  if (v >= high) return static_cast<u64>(at_high);
  return static_cast<u64>(static_cast<V>(v));
}
u64 to_s32(double v, double (*round)(double), u64 nan) {
  return to_integer<i32>(v, -2147483648.0, 2147483647.0, INT32_MIN, INT32_MAX, nan, round);
}
double even(double v) { return std::nearbyint(v); }
double chop(double v) { return std::trunc(v); }
double down(double v) { return std::floor(v); }

const std::vector<Form> kConvertForms = {
    {"cvt.rzi.s32.f32", T::s32, {T::f32}, [](const u64* v) { return to_s32(f32(v[0]), chop, 0); }},
    {"cvt.rni.s32.f32", T::s32, {T::f32}, [](const u64* v) { return to_s32(f32(v[0]), even, 0); }},
    {"cvt.rmi.s32.f64",
     T::s32,
     {T::f64},
     [](const u64* v) { return to_s32(f64(v[0]), down, 0x80000000); }},
    {"cvt.rzi.u32.f32",
     T::u32,
     {T::f32},
     [](const u64* v) {
       return to_integer<u32>(f32(v[0]), 0, 4294967295.0, 0, 0xffffffff, 0, chop);
     }},
    {"cvt.rzi.u64.f32",
     T::u64,
     {T::f32},
     [](const u64* v) {
       return to_integer<u64>(f32(v[0]), 0, 18446744073709551616.0, 0, ~u64{0}, u64{1} << 63, chop);
     }},
    {"cvt.rzi.s64.f64",
     T::s64,
     {T::f64},
     [](const u64* v) {
       return to_integer<i64>(f64(v[0]), -0x1p63, 0x1p63, INT64_MIN, INT64_MAX, u64{1} << 63, chop);
     }},
    {"cvt.rzi.s16.f32",
     T::s16,
     {T::f32},
     [](const u64* v) {
       return to_integer<i16>(f32(v[0]), -32768, 32767, -32768, 32767, 0, chop);
     }},
    {"cvt.rn.f32.s32",
     T::f32,
     {T::s32},
     [](const u64* v) { return raw(static_cast<float>(s32(v[0]))); }},
    {"cvt.rn.f32.u32",
     T::f32,
     {T::u32},
     [](const u64* v) { return raw(static_cast<float>(v[0])); }},
    {"cvt.rz.f32.u64",
     T::f32,
     {T::u64},
     [](const u64* v) {
       return rounded(FE_TOWARDZERO, [&] {
         volatile u64 x = v[0];
         return static_cast<float>(x);
       });
     }},
    {"cvt.rn.f32.s64",
     T::f32,
     {T::s64},
     [](const u64* v) { return raw(static_cast<float>(s64(v[0]))); }},
    {"cvt.rn.f64.s64",
     T::f64,
     {T::s64},
     [](const u64* v) { return raw(static_cast<double>(s64(v[0]))); }},
    {"cvt.rn.f64.u64",
     T::f64,
     {T::u64},
     [](const u64* v) { return raw(static_cast<double>(v[0])); }},
    {"cvt.f64.f32", T::f64, {T::f32}, [](const u64* v) { return raw(double{f32(v[0])}); }},
    {"cvt.rn.f32.f64",
     T::f32,
     {T::f64},
     [](const u64* v) { return raw(static_cast<float>(f64(v[0]))); }},
    {"cvt.rp.f32.f64",
     T::f32,
     {T::f64},
     [](const u64* v) {
       return rounded(FE_UPWARD, [&] {
         volatile double x = f64(v[0]);
         return static_cast<float>(x);
       });
     }},
    {"cvt.sat.f32.f32",
     T::f32,
     {T::f32},
     [](const u64* v) {
       const float a = f32(v[0]);
       return raw(a != a || a <= 0 ? 0.0f : a > 1 ? 1.0f : a);
     }},
    {"cvt.rmi.f32.f32", T::f32, {T::f32}, [](const u64* v) { return raw(std::floor(f32(v[0]))); }},
    {"cvt.rni.f64.f64",
     T::f64,
     {T::f64},
     [](const u64* v) { return raw(std::nearbyint(f64(v[0]))); }},
    {"cvt.f32.f16",
     T::f32,
     {T::f16},
     [](const u64* v) { return raw(static_cast<float>(half_value(v[0]))); }},
    {"cvt.rn.f16.f32", T::f16, {T::f32}, [](const u64* v) { return nearest_half(f32(v[0])); }},
    {"cvt.rz.f16.f32",
     T::f16,
     {T::f32},
     [](const u64* v) {
       const double x = f32(v[0]);
       u64 h = nearest_half(x);
       const double back = half_value(h);
       if (std::isfinite(x) && std::fabs(back) > std::fabs(x)) --h;
       return h;
     }},
    {"cvt.rn.bf16.f32",
     T::bf16,
     {T::f32},
     [](const u64* v) { return nearest_bf16(f32(v[0])); },
     0,
     0,
     80},
    {"cvt.rn.f16.s32", T::f16, {T::s32}, [](const u64* v) { return nearest_half(s32(v[0])); }},
    {"cvt.rzi.s32.f16",
     T::s32,
     {T::f16},
     [](const u64* v) { return to_s32(half_value(v[0]), chop, 0); }},
    {"cvt.rna.tf32.f32",
     T::b32,
     {T::f32},
     [](const u64* v) {
       const float a = f32(v[0]);
       if (a != a) return u64{0x7fffffff};
       if (std::isinf(a)) return v[0];
       return (v[0] + 0x1000) & 0xffffe000;
     },
     0,
     0,
     80},
    {"cvt.rn.f16x2.f32",
     T::b32,
     {T::f32, T::f32},
     [](const u64* v) { return nearest_half(f32(v[0])) << 16 | nearest_half(f32(v[1])); },
     0,
     0,
     80},
    {"cvt.rn.relu.bf16x2.f32",
     T::b32,
     {T::f32, T::f32},
     [](const u64* v) {
       const auto one = [](float a) { return a <= 0 ? 0 : nearest_bf16(a); };
       return one(f32(v[0])) << 16 | one(f32(v[1]));
     },
     0,
     0,
     80},
    {"cvt.u32.u16", T::u32, {T::u16}, [](const u64* v) { return v[0]; }},
    {"cvt.s32.s16",
     T::s32,
     {T::s16},
     [](const u64* v) { return static_cast<u64>(i64{s16(v[0])}); }},
    {"cvt.s64.s32",
     T::s64,
     {T::s32},
     [](const u64* v) { return static_cast<u64>(i64{s32(v[0])}); }},
    {"cvt.u16.u32", T::u16, {T::u32}, [](const u64* v) { return v[0]; }},
    {"cvt.s32.s8",
     T::s32,
     {T::b32},
     [](const u64* v) { return static_cast<u64>(i64{static_cast<i8>(v[0])}); }},
    {"cvt.u32.u8", T::u32, {T::b32}, [](const u64* v) { return v[0] & 255; }},
    {"cvt.sat.u8.s32",
     T::u32,
     {T::s32},
     [](const u64* v) {
       return static_cast<u64>(s32(v[0]) < 0 ? 0 : s32(v[0]) > 255 ? 255 : s32(v[0]));
     }},
    {"cvt.sat.s16.s32",
     T::s16,
     {T::s32},
     [](const u64* v) {
       return static_cast<u64>(s32(v[0]) < -32768 ? -32768 : s32(v[0]) > 32767 ? 32767 : s32(v[0]));
     }},
    {"cvt.pack.sat.u8.s32.b32",
     T::b32,
     {T::s32, T::s32, T::b32},
     [](const u64* v) {
       const auto c = [](i32 x) { return static_cast<u64>(x < 0 ? 0 : x > 255 ? 255 : x); };
       return v[2] << 16 | c(s32(v[0])) << 8 | c(s32(v[1]));
     }},
};
VGPU_FORMS(Convert, kConvertForms);

// fp8 by enumeration: the 256 codes are valued from the definition, the nearest one wins.
double fp8_value(int code, int exponent_bits) {
  const int mantissa_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int e = (code & 127) >> mantissa_bits, f = code & ((1 << mantissa_bits) - 1);
  const double sign = code > 127 ? -1 : 1;
  if (exponent_bits == 4 && (code & 127) == 127) return std::nan("");
  if (exponent_bits == 5 && e == 31) return f != 0 ? std::nan("") : sign * HUGE_VAL;
  if (e == 0) return sign * std::ldexp(f, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + f, e - bias - mantissa_bits);
}
u64 nearest_fp8(double v, int exponent_bits) {
  if (v != v) return 127;
  u64 best = 0;
  double distance = HUGE_VAL;
  for (int code = 0; code < 128; ++code) {
    const double c = fp8_value(code, exponent_bits);
    if (!std::isfinite(c)) continue;
    const double d = std::fabs(std::fabs(v) - c);
    if (d < distance || (d == distance && code % 2 == 0)) {
      best = static_cast<u64>(code);
      distance = d;
    }
  }
  // Far above the largest number, distances round to each other.
  const double largest = exponent_bits == 4 ? 448 : 57344;
  if (std::fabs(v) >= largest) best = exponent_bits == 4 ? 126 : 123;
  return best | (std::signbit(v) ? 128 : 0);
}
const std::vector<Form> kFp8Forms = {
    {"cvt.rn.satfinite.e4m3x2.f32",
     T::b16,
     {T::f32, T::f32},
     [](const u64* v) { return nearest_fp8(f32(v[0]), 4) << 8 | nearest_fp8(f32(v[1]), 4); },
     0,
     0,
     89},
    {"cvt.rn.satfinite.e5m2x2.f32",
     T::b16,
     {T::f32, T::f32},
     [](const u64* v) { return nearest_fp8(f32(v[0]), 5) << 8 | nearest_fp8(f32(v[1]), 5); },
     0,
     0,
     89},
    {"cvt.rn.f16x2.e4m3x2",
     T::b32,
     {T::b16},
     [](const u64* v) {
       return nearest_half(fp8_value(static_cast<int>(v[0] >> 8), 4)) << 16 |
              nearest_half(fp8_value(static_cast<int>(v[0] & 255), 4));
     },
     0,
     0,
     89},
    {"cvt.rn.f16x2.e5m2x2",
     T::b32,
     {T::b16},
     [](const u64* v) {
       return tidy(nearest_half(fp8_value(static_cast<int>(v[0] >> 8), 5)) << 16 |
                       nearest_half(fp8_value(static_cast<int>(v[0] & 255), 5)),
                   0x7c00);
     },
     0,
     0,
     89},
};
VGPU_FORMS(Fp8, kFp8Forms);

}  // namespace
}  // namespace vgpu::test
