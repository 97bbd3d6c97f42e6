// Families of f32 and f64. PTX ISA 9.0 sections 9.7.3, 9.7.6.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/scalar_forms.h"

namespace vgpu::test {
namespace {

template <class V>
void add_float_rows(Rows& rows, const char* name, T type) {
  const std::string suffix = std::string(".") + name;
  const std::vector<T> one = {type}, two = {type, type}, three = {type, type, type};
  for (const Rounding r : kRoundings) {
    const std::string rounding = std::string(".") + kSuffix[r] + suffix;
    const auto binary = [&](const char* op, auto&& f) {
      add(rows, op + rounding, type, two, [=](const u64* v) {
        const V a = of<V>(v[0]), b = of<V>(v[1]);
        return raw(under(r, [&] { return f(keep(a), keep(b)); }));
      });
    };
    binary("add", [](V a, V b) { return a + b; });
    binary("sub", [](V a, V b) { return a - b; });
    binary("mul", [](V a, V b) { return a * b; });
    binary("div", [](V a, V b) { return a / b; });
    add(rows, "fma" + rounding, type, three, [=](const u64* v) {
      const V a = of<V>(v[0]), b = of<V>(v[1]), c = of<V>(v[2]);
      return raw(under(r, [&] { return std::fma(keep(a), keep(b), keep(c)); }));
    });
    add(rows, "rcp" + rounding, type, one, [=](const u64* v) {
      const V a = of<V>(v[0]);
      return raw(under(r, [&] { return V{1} / keep(a); }));
    });
    add(rows, "sqrt" + rounding, type, one, [=](const u64* v) {
      const V a = of<V>(v[0]);
      return raw(under(r, [&] { return std::sqrt(keep(a)); }));
    });
  }
  add(rows, "add" + suffix, type, two,
      [](const u64* v) { return raw(keep(of<V>(v[0])) + keep(of<V>(v[1]))); });
  add(rows, "sub" + suffix, type, two,
      [](const u64* v) { return raw(keep(of<V>(v[0])) - keep(of<V>(v[1]))); });
  add(rows, "mul" + suffix, type, two,
      [](const u64* v) { return raw(keep(of<V>(v[0])) * keep(of<V>(v[1]))); });
  add(rows, "abs" + suffix, type, one, [](const u64* v) { return raw(std::fabs(of<V>(v[0]))); });
  add(rows, "neg" + suffix, type, one, [](const u64* v) { return raw(-of<V>(v[0])); });
  add(rows, "min" + suffix, type, two,
      [](const u64* v) { return raw(least(of<V>(v[0]), of<V>(v[1]))); });
  add(rows, "max" + suffix, type, two,
      [](const u64* v) { return raw(-least(-of<V>(v[0]), -of<V>(v[1]))); });
  add(rows, "copysign" + suffix, type, two,
      [](const u64* v) { return raw(std::copysign(of<V>(v[1]), of<V>(v[0]))); });
  add(rows, "selp" + suffix, type, {type, type, T::pred},
      [](const u64* v) { return v[2] != 0 ? v[0] : v[1]; });
  add(rows, "mov" + suffix, type, one, [](const u64* v) { return v[0]; });
}

Rows float_rows() {
  Rows rows;
  add_float_rows<float>(rows, "f32", T::f32);
  add_float_rows<double>(rows, "f64", T::f64);
  each_comparison([&](const std::string& op, auto&& holds) {
    for (const auto& [name, type] : {std::pair{".f32", T::f32}, {".f64", T::f64}}) {
      const bool wide = type == T::f64;
      const auto value = [=](u64 v) { return wide ? f64(v) : double{f32(v)}; };
      const std::vector<T> two = {type, type};
      add(rows, "setp." + op + name, T::pred, two,
          [=](const u64* v) { return u64{holds(value(v[0]), value(v[1]))}; });
      add(rows, "set." + op + ".u32" + name, T::u32, two,
          [=](const u64* v) { return holds(value(v[0]), value(v[1])) ? u64{0xffffffff} : 0; });
      add(rows, "set." + op + ".f32" + name, T::f32, two,
          [=](const u64* v) { return holds(value(v[0]), value(v[1])) ? raw(1.0f) : 0; });
    }
    const auto small = [&](const Small& s, int needs) {
      add(
          rows, "setp." + op + "." + s.name, T::pred, {s.type, s.type},
          [=](const u64* v) { return u64{holds(s.value(v[0]), s.value(v[1]))}; }, needs);
      const auto pair = [=](const u64* v, int i) {
        return holds(s.value(v[0] >> i & 0xffff), s.value(v[1] >> i & 0xffff));
      };
      add(
          rows,
          std::string("{ .reg .pred p, q; .reg .b32 x; setp.") + op + "." + s.pair +
              " p|q, $1, $2; selp.b32 $0, 1, 0, p; selp.b32 x, 2, 0, q; or.b32 $0, $0, x; }",
          T::b32, {s.pair_type, s.pair_type},
          [=](const u64* v) { return u64{pair(v, 0)} | u64{pair(v, 16)} << 1; }, needs);
      const u64 one = s.code(1, kNearest);
      add(
          rows, "set." + op + "." + s.name + "." + s.name, s.type, {s.type, s.type},
          [=](const u64* v) { return pair(v, 0) ? one : 0; }, needs);
      add(
          rows, "set." + op + "." + s.pair + "." + s.pair, s.pair_type, {s.pair_type, s.pair_type},
          [=](const u64* v) { return (pair(v, 0) ? one : 0) | (pair(v, 16) ? one << 16 : 0); },
          needs);
      add(
          rows, "set." + op + ".u32." + s.name, T::u32, {s.type, s.type},
          [=](const u64* v) { return pair(v, 0) ? u64{0xffffffff} : 0; }, needs);
      add(
          rows, "set." + op + ".u32." + s.pair, T::u32, {s.pair_type, s.pair_type},
          [=](const u64* v) {
            return (pair(v, 0) ? u64{0xffff} : 0) | (pair(v, 16) ? u64{0xffff0000} : 0);
          },
          needs);
    };
    small(kHalf, 75);
    small(kBrain, 90);
  });
  // Approximations, where their bound is absolute or holds on a part of the range.
  const auto bounded = [&](const std::string& op, double (*f)(double)) {
    add(
        rows,
        "{ .reg .f32 x; min.f32 x, $1, 0f40490fdb; max.f32 x, x, 0fc0490fdb; " + op + " $0, x; }",
        T::f32, {T::f32},
        [=](const u64* v) {
          const float x = f32(v[0]), pi = f32(0x40490fdb);
          const float clamped = x != x ? pi : std::min(std::max(x, -pi), pi);
          return raw(static_cast<float>(f(clamped)));
        },
        75, 0, 0x1p-20);
  };
  bounded("sin.approx.f32", [](double x) { return std::sin(x); });
  bounded("cos.approx.f32", [](double x) { return std::cos(x); });
  bounded("sin.approx.ftz.f32", [](double x) { return std::sin(x); });
  bounded("cos.approx.ftz.f32", [](double x) { return std::cos(x); });
  const auto flush = [](float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; };
  const auto relative = [&](const std::string& op, bool ftz, auto&& f, double ulp,
                            double absolute) {
    add(
        rows, op, T::f32, {T::f32},
        [=](const u64* v) {
          const float x = ftz ? flush(f32(v[0])) : f32(v[0]);
          const float r = static_cast<float>(f(double{x}));
          return raw(ftz ? flush(r) : r);
        },
        75, ulp, absolute);
  };
  relative(
      "rcp.approx.f32", false, [](double x) { return 1 / x; }, 1, 0);
  relative(
      "rsqrt.approx.ftz.f32", true, [](double x) { return 1 / std::sqrt(x); }, 2, 0);
  relative(
      "sqrt.approx.ftz.f32", true, [](double x) { return std::sqrt(x); }, 2, 0);
  relative(
      "lg2.approx.ftz.f32", true, [](double x) { return std::log2(x); }, 2, 0x1p-22);
  add(
      rows, "{ .reg .f32 y; abs.f32 y, $2; min.f32 y, y, 0f7e800000; div.approx.f32 $0, $1, y; }",
      T::f32, {T::f32, T::f32},
      [](const u64* v) {  // divisors up to 2^126
        const float y =
            f32(v[1]) != f32(v[1]) ? 0x1p126f : std::min(std::fabs(f32(v[1])), 0x1p126f);
        return raw(static_cast<float>(double{f32(v[0])} / y));
      },
      75, 2, 0x1p-126);
  // The upper words of double reciprocals: bounds of 2^-20 and more.
  add(
      rows,
      "{ .reg .f64 x; abs.f64 x, $1; max.f64 x, x, 0d0010000000000000; rcp.approx.ftz.f64 $0, x; }",
      T::f64, {T::f64},
      [](const u64* v) {
        const double x =
            f64(v[0]) != f64(v[0]) ? 0x1p-1022 : std::max(std::fabs(f64(v[0])), 0x1p-1022);
        const double r = 1 / x;
        return raw(r < 0x1p-1022 ? 0.0 : r);
      },
      75, 0x1p33);
  add(
      rows,
      "{ .reg .f64 x; abs.f64 x, $1; max.f64 x, x, 0d0010000000000000; rsqrt.approx.f64 $0, x; }",
      T::f64, {T::f64},
      [](const u64* v) {
        const double x =
            f64(v[0]) != f64(v[0]) ? 0x1p-1022 : std::max(std::fabs(f64(v[0])), 0x1p-1022);
        return raw(1 / std::sqrt(x));
      },
      75, 0x1p33);
  return rows;
}
VGPU_FORMS(FloatFamilies, float_rows());

}  // namespace
}  // namespace vgpu::test
