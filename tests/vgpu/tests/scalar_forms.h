// Rows of whole families of scalar instructions, every type and rounding that the compiler emits,
// against host arithmetic: what the tables of scalar_*_test.cpp have in common. What is special
// about single instructions is in integer_test.cpp and float_test.cpp.
#pragma once

#include <cfenv>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/forms.h"

namespace vgpu::test {

struct IntegerType {
  const char* name;
  T type;
  int bits;
  bool is_signed;

  i64 value(u64 raw) const {
    if (bits == 64) return static_cast<i64>(raw);
    raw &= (u64{1} << bits) - 1;
    return is_signed && (raw >> (bits - 1) & 1) != 0 ? static_cast<i64>(raw | ~u64{0} << bits)
                                                     : static_cast<i64>(raw);
  }
  long double exact(u64 raw) const {
    return is_signed || bits < 64 ? static_cast<long double>(value(raw))
                                  : static_cast<long double>(raw);
  }
  bool less(u64 a, u64 b) const { return exact(a) < exact(b); }
};
inline constexpr IntegerType kIntegers[] = {
    {"u16", T::u16, 16, false}, {"s16", T::s16, 16, true},  {"u32", T::u32, 32, false},
    {"s32", T::s32, 32, true},  {"u64", T::u64, 64, false}, {"s64", T::s64, 64, true},
};
inline constexpr IntegerType kBits[] = {
    {"b16", T::b16, 16, false}, {"b32", T::b32, 32, false}, {"b64", T::b64, 64, false}};

enum Rounding { kNearest, kZero, kDown, kUp };
inline constexpr Rounding kRoundings[] = {kNearest, kZero, kDown, kUp};
inline constexpr const char* kSuffix[] = {"rn", "rz", "rm", "rp"};
inline constexpr int kModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};

template <class F>
auto under(Rounding rounding, F&& f) {
  std::fesetround(kModes[rounding]);
  volatile auto r = f();
  std::fesetround(FE_TONEAREST);
  return decltype(f()){r};
}
template <class V>
V keep(V v) {  // hides a value from the compiler
  volatile V x = v;
  return x;
}

// --- 16-bit floats by search over their codes, for every rounding

inline u64 to_small(long double v, Rounding rounding, double (*value)(u64), u64 infinity) {
  if (v != v) return 0x7fff;
  const u64 sign = std::signbit(v) ? 0x8000 : 0;
  const long double magnitude = std::fabs(v);
  if (std::isinf(magnitude)) return sign | infinity;
  u64 low = 0, high = infinity;  // value(low) <= magnitude
  while (high - low > 1) {
    const u64 middle = (low + high) / 2;
    (static_cast<long double>(value(middle)) <= magnitude ? low : high) = middle;
  }
  const long double below = magnitude - value(low);
  if (below == 0) return sign | low;
  const bool away = rounding == kUp ? sign == 0 : rounding == kDown ? sign != 0 : false;
  if (rounding == kNearest) {
    const long double next = high == infinity ? 2.0L * value(low) - value(low - 1)
                                              : static_cast<long double>(value(high));
    const long double above = next - magnitude;
    return sign | (below > above || (below == above && (low & 1) != 0) ? high : low);
  }
  return sign | (away ? high : low);
}
inline u64 to_half(long double v, Rounding r = kNearest) {
  return to_small(v, r, half_value, 0x7c00);
}
inline u64 to_brain(long double v, Rounding r = kNearest) {
  return to_small(v, r, bf16_value, 0x7f80);
}

// One small format: name, packed name, decoder, encoder.
struct Small {
  const char *name, *pair;
  T type, pair_type;
  double (*value)(u64);
  u64 (*code)(long double, Rounding);
  int base;  // compute capability of fma, 90 of add and mul for bf16
};
inline const Small kHalf = {"f16", "f16x2", T::f16, T::f16x2, half_value, to_half, 75};
inline const Small kBrain = {"bf16", "bf16x2", T::bf16, T::bf16x2, bf16_value, to_brain, 80};

inline u64 relu(u64 code, const Small& s) {
  const double v = s.value(code);
  return v != v ? 0x7fff : v < 0 || v == 0 ? 0 : code;
}

using Rows = std::vector<Form>;
inline void add(Rows& rows, const std::string& text, T result, std::vector<T> inputs,
                Expected expected, int needs = 75, double ulp = 0, double absolute = 0) {
  rows.push_back({text, result, std::move(inputs), std::move(expected), ulp, absolute, needs});
}

// NaNs of packed results are one code on either side.
inline Rows tidy(Rows rows) {
  for (Form& row : rows) {
    if (row.result != T::f16x2 && row.result != T::bf16x2) continue;
    const u64 infinity = row.result == T::f16x2 ? 0x7c00 : 0x7f80;
    row.expected = [f = row.expected, infinity](const u64* v) {
      u64 r = f(v);
      for (int i = 0; i < 32; i += 16)
        if ((r >> i & 0x7fff) > infinity) r = (r & ~(u64{0xffff} << i)) | u64{0x7fff} << i;
      return r;
    };
  }
  return rows;
}

// A scalar row and its packed twin, which does the same to both halves.
template <class F>
void add_small(Rows& rows, const Small& s, const std::string& op, size_t operands, int needs, F f) {
  const auto scalar = [=](const u64* v) {
    double x[3] = {};
    for (size_t i = 0; i < operands; ++i) x[i] = s.value(v[i] & 0xffff);
    return f(x, v);
  };
  add(rows, op + "." + s.name, s.type, std::vector<T>(operands, s.type), scalar, needs);
  add(
      rows, op + "." + s.pair, s.pair_type, std::vector<T>(operands, s.pair_type),
      [=](const u64* v) {
        u64 low[3], high[3];
        for (size_t i = 0; i < operands; ++i) low[i] = v[i] & 0xffff, high[i] = v[i] >> 16 & 0xffff;
        return (scalar(low) & 0xffff) | (scalar(high) & 0xffff) << 16;
      },
      needs);
}

// --- what floats of two sizes share

template <class V>
V of(u64 raw);
template <>
inline float of<float>(u64 raw) {
  return f32(raw);
}
template <>
inline double of<double>(u64 raw) {
  return f64(raw);
}
template <class V>
V least(V a, V b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == 0 && b == 0) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

// Ordered comparisons fail on NaN, unordered ones hold.
template <class F>
void each_comparison(F&& f) {
  f("eq", [](double a, double b) { return a == b; });
  f("ne", [](double a, double b) { return a < b || a > b; });
  f("lt", [](double a, double b) { return a < b; });
  f("le", [](double a, double b) { return a <= b; });
  f("gt", [](double a, double b) { return a > b; });
  f("ge", [](double a, double b) { return a >= b; });
  f("equ", [](double a, double b) { return !(a < b || a > b); });
  f("neu", [](double a, double b) { return a != b; });
  f("ltu", [](double a, double b) { return !(a >= b); });
  f("leu", [](double a, double b) { return !(a > b); });
  f("gtu", [](double a, double b) { return !(a <= b); });
  f("geu", [](double a, double b) { return !(a < b); });
  f("num", [](double a, double b) { return a == a && b == b; });
  f("nan", [](double a, double b) { return a != a || b != b; });
}

}  // namespace vgpu::test
