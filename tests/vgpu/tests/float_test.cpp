// PTX ISA 9.0 sections 9.7.3 to 9.7.7 against host arithmetic, through formats of the test's own.
#include <cfenv>
#include <cmath>

#include "tests/forms.h"

namespace vgpu::test {
namespace {

double flushed(double v) { return std::fabs(v) < 0x1p-126 ? std::copysign(0.0, v) : v; }
float flushed(float v) { return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v; }

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
     [](const u64* v) {
       // Flushed where 24 bits of the product, of any exponent, are below 2^-126.
       const float x = flushed(f32(v[0])), y = flushed(f32(v[1]));
       const double product = double{x} * y;
       const bool tiny = std::fabs(product) < 0x1p-100 &&
                         std::fabs(static_cast<float>(product * 0x1p64)) < 0x1p-62f;
       return raw(tiny ? std::copysign(0.0f, x * y) : mul(x, y));
     }},
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

}  // namespace
}  // namespace vgpu::test
