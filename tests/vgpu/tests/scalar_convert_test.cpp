// Conversions between all types. PTX ISA 9.0 section 9.7.9.21 (cvt).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/scalar_forms.h"

namespace vgpu::test {
namespace {

Rows convert_rows() {
  Rows rows;
  struct Source {
    const char* name;
    T type;
    double (*value)(u64);
    bool wide;
  };
  const Source floats[] = {{"f16", T::f16, half_value, false},
                           {"f32", T::f32, [](u64 v) { return double{f32(v)}; }, false},
                           {"f64", T::f64, [](u64 v) { return f64(v); }, true}};
  const auto whole = [](long double v, Rounding r) {
    switch (r) {
      case kNearest:
        return std::nearbyint(v);
      case kZero:
        return std::trunc(v);
      case kDown:
        return std::floor(v);
      default:
        return std::ceil(v);
    }
  };
  constexpr const char* kWhole[] = {"rni", "rzi", "rmi", "rpi"};
  for (const Source& s : floats) {
    for (const Rounding r : kRoundings) {
      // To integers: NaN is 0, or the highest bit where 64 bits are involved.
      for (const IntegerType& t : kIntegers) {
        add(rows, std::string("cvt.") + kWhole[r] + "." + t.name + "." + s.name, t.type, {s.type},
            [=](const u64* v) -> u64 {
              const double x = s.value(v[0]);
              if (x != x) return s.wide || t.bits == 64 ? u64{1} << (t.bits - 1) : 0;
              const long double w = whole(x, r);
              const long double high = std::ldexp(1.0L, t.is_signed ? t.bits - 1 : t.bits) - 1,
                                low = t.is_signed ? -high - 1 : 0;
              if (w <= low) return t.is_signed ? u64{1} << (t.bits - 1) : 0;
              if (w >= high) return static_cast<u64>(high);
              return w < 0 ? static_cast<u64>(static_cast<i64>(w)) : static_cast<u64>(w);
            });
      }
      // To whole numbers of the same format.
      add(rows, std::string("cvt.") + kWhole[r] + "." + s.name + "." + s.name, s.type, {s.type},
          [=](const u64* v) -> u64 {
            const long double w = whole(s.value(v[0]), r);
            if (s.type == T::f16) return to_half(w);
            return s.type == T::f32 ? raw(static_cast<float>(w)) : raw(static_cast<double>(w));
          });
    }
  }
  for (const Rounding r : kRoundings) {
    const std::string rounding = std::string("cvt.") + kSuffix[r];
    for (const IntegerType& t : kIntegers) {
      add(rows, rounding + ".f16." + t.name, T::f16, {t.type},
          [=](const u64* v) { return to_half(t.exact(v[0]), r); });
      add(rows, rounding + ".f32." + t.name, T::f32, {t.type}, [=](const u64* v) {
        const long double x = t.exact(v[0]);
        return raw(under(r, [&] { return static_cast<float>(keep(x)); }));
      });
      add(rows, rounding + ".f64." + t.name, T::f64, {t.type}, [=](const u64* v) {
        const long double x = t.exact(v[0]);
        return raw(under(r, [&] { return static_cast<double>(keep(x)); }));
      });
    }
    add(rows, rounding + ".f32.f64", T::f32, {T::f64}, [=](const u64* v) {
      const double x = f64(v[0]);
      return raw(under(r, [&] { return static_cast<float>(keep(x)); }));
    });
    add(rows, rounding + ".f16.f32", T::f16, {T::f32},
        [=](const u64* v) { return to_half(f32(v[0]), r); });
    add(rows, rounding + ".f16.f64", T::f16, {T::f64},
        [=](const u64* v) { return to_half(f64(v[0]), r); });
    if (r > kZero) continue;
    add(
        rows, rounding + ".bf16.f32", T::bf16, {T::f32},
        [=](const u64* v) { return to_brain(f32(v[0]), r); }, 80);
    // The first source is the upper half.
    const auto pair = [=](u64 (*code)(long double, Rounding)) {
      return [=](const u64* v) { return code(f32(v[1]), r) | code(f32(v[0]), r) << 16; };
    };
    add(rows, rounding + ".bf16x2.f32", T::bf16x2, {T::f32, T::f32}, pair(to_brain), 80);
    add(rows, rounding + ".f16x2.f32", T::f16x2, {T::f32, T::f32}, pair(to_half), 80);
    add(
        rows, rounding + ".relu.f16.f32", T::f16, {T::f32},
        [=](const u64* v) { return relu(to_half(f32(v[0]), r), kHalf); }, 80);
    add(
        rows, rounding + ".relu.bf16.f32", T::bf16, {T::f32},
        [=](const u64* v) { return relu(to_brain(f32(v[0]), r), kBrain); }, 80);
  }
  add(rows, "cvt.f32.f16", T::f32, {T::f16},
      [](const u64* v) { return raw(static_cast<float>(half_value(v[0]))); });
  add(rows, "cvt.f64.f16", T::f64, {T::f16}, [](const u64* v) { return raw(half_value(v[0])); });
  add(rows, "cvt.f64.f32", T::f64, {T::f32}, [](const u64* v) { return raw(double{f32(v[0])}); });
  add(
      rows, "cvt.f32.bf16", T::f32, {T::bf16},
      [](const u64* v) { return raw(static_cast<float>(bf16_value(v[0]))); }, 90);
  // Between integers: the low bits, or the source's extension; .sat clamps.
  for (const IntegerType& from : kIntegers) {
    for (const IntegerType& to : kIntegers) {
      add(rows, std::string("cvt.") + to.name + "." + from.name, to.type, {from.type},
          [=](const u64* v) { return static_cast<u64>(from.value(v[0])); });
      // .sat is there where the target does not hold all that the source does.
      const bool holds_all = from.is_signed ? to.is_signed && to.bits >= from.bits
                                            : to.bits > from.bits - (to.is_signed ? 0 : 1);
      if (holds_all) continue;
      add(rows, std::string("cvt.sat.") + to.name + "." + from.name, to.type, {from.type},
          [=](const u64* v) -> u64 {
            const long double high = std::ldexp(1.0L, to.is_signed ? to.bits - 1 : to.bits) - 1,
                              low = to.is_signed ? -high - 1 : 0, x = from.exact(v[0]);
            if (x > high) return static_cast<u64>(high);
            if (x < low) return to.is_signed ? u64{1} << (to.bits - 1) : 0;
            return v[0] & (from.bits == 64 ? ~u64{0} : (u64{1} << from.bits) - 1)
                       ? static_cast<u64>(from.value(v[0]))
                       : 0;
          });
    }
    // Bytes lie in the low bits of a wider register.
    for (const bool is_signed : {false, true}) {
      const auto low_byte = [=](u64 v) {
        return is_signed ? static_cast<u64>(static_cast<i64>(static_cast<i8>(v))) : v & 255;
      };
      add(rows, std::string("cvt.") + from.name + (is_signed ? ".s8" : ".u8"), from.type,
          {from.type}, [=](const u64* v) { return low_byte(v[0]); });
      add(rows, std::string("cvt.") + (is_signed ? "s8." : "u8.") + from.name, T::b32, {from.type},
          [=](const u64* v) { return low_byte(v[0]); });
    }
  }
  for (const Rounding r : kRoundings)
    for (const bool is_signed : {false, true}) {
      const auto byte = [=](u64 v) {
        return is_signed ? static_cast<double>(static_cast<i8>(v)) : static_cast<double>(v & 255);
      };
      const std::string from = is_signed ? ".s8" : ".u8";
      add(rows, std::string("cvt.") + kSuffix[r] + ".f32" + from, T::f32, {T::b32},
          [=](const u64* v) { return raw(static_cast<float>(byte(v[0]))); });
      add(rows, std::string("cvt.") + kSuffix[r] + ".f64" + from, T::f64, {T::b32},
          [=](const u64* v) { return raw(byte(v[0])); });
    }
  return rows;
}
VGPU_FORMS(ConvertFamilies, tidy(convert_rows()));

}  // namespace
}  // namespace vgpu::test
