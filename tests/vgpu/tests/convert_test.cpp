// Conversions, PTX ISA 9.0 section 9.7.9, against host arithmetic, fp8 through a format of the
// test's own.
#include <cfenv>
#include <cmath>

#include "tests/forms.h"

namespace vgpu::test {
namespace {

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
       if (a != a) return (v[0] | 0x400000) & 0xffffe000;
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
