// Families of f16 and bf16. PTX ISA 9.0 sections 9.7.4, 9.7.7.
#include <cfenv>
#include <cmath>
#include <cstring>

#include "tests/scalar_forms.h"

namespace vgpu::test {
namespace {

// a + b with 64 bits, the last of them set when the sum has more: what rounds it once more to fewer
// bits rounds as if from the exact sum.
long double sum_to_odd(long double a, long double b) {
  std::feclearexcept(FE_INEXACT);
  std::fesetround(FE_TOWARDZERO);
  volatile long double x = a, y = b;
  volatile long double r = x + y;
  std::fesetround(FE_TONEAREST);
  long double out = r;
  if (std::fetestexcept(FE_INEXACT) != 0) {
    u64 significand;
    std::memcpy(&significand, &out, 8);
    significand |= 1;
    std::memcpy(&out, &significand, 8);
  }
  return out;
}

u64 saturated(u64 code, const Small& s) {
  const double v = s.value(code);
  return v != v || v < 0 || v == 0 ? 0 : v > 1 ? s.code(1, kNearest) : code;
}

Rows small_rows() {
  Rows rows;
  for (const Small* format : {&kHalf, &kBrain}) {
    const Small& s = *format;
    const bool half = format == &kHalf;
    const int arithmetic = half ? 75 : 90;
    const auto sum = [=](const double* x, const u64*) { return s.code(x[0] + x[1], kNearest); };
    const auto difference = [=](const double* x, const u64*) {
      return s.code(x[0] - x[1], kNearest);
    };
    const auto product = [=](const double* x, const u64*) { return s.code(x[0] * x[1], kNearest); };
    const auto fused = [=](const double* x, const u64*) {
      return s.code(sum_to_odd(x[0] * x[1], x[2]), kNearest);
    };
    for (const char* rounding : {"", ".rn"}) {
      add_small(rows, s, std::string("add") + rounding, 2, arithmetic, sum);
      add_small(rows, s, std::string("sub") + rounding, 2, arithmetic, difference);
      add_small(rows, s, std::string("mul") + rounding, 2, arithmetic, product);
    }
    add_small(rows, s, "fma.rn", 3, s.base, fused);
    add_small(rows, s, "fma.rn.relu", 3, 80,
              [=](const double* x, const u64* v) { return relu(fused(x, v), s); });
    if (half) {
      add_small(rows, s, "add.sat", 2, 75,
                [=](const double* x, const u64* v) { return saturated(sum(x, v), s); });
      add_small(rows, s, "sub.sat", 2, 75,
                [=](const double* x, const u64* v) { return saturated(difference(x, v), s); });
      add_small(rows, s, "mul.sat", 2, 75,
                [=](const double* x, const u64* v) { return saturated(product(x, v), s); });
      add_small(rows, s, "fma.rn.sat", 3, 75,
                [=](const double* x, const u64* v) { return saturated(fused(x, v), s); });
    }
    // The smaller and the larger: of numbers, or NaN if there is one.
    const auto pick = [=](bool larger, bool nan) {
      return [=](const double* x, const u64* v) -> u64 {
        const bool a = x[0] != x[0], b = x[1] != x[1];
        if (a && b) return 0x7fff;
        if (a || b) return nan ? 0x7fff : a ? v[1] & 0xffff : v[0] & 0xffff;
        const double m = larger ? -least(-x[0], -x[1]) : least(x[0], x[1]);
        return s.code(m, kNearest);
      };
    };
    add_small(rows, s, "min", 2, 80, pick(false, false));
    add_small(rows, s, "max", 2, 80, pick(true, false));
    add_small(rows, s, "min.NaN", 2, 80, pick(false, true));
    add_small(rows, s, "max.NaN", 2, 80, pick(true, true));
    // Signs alone change; which NaN comes out is not fixed, so NaNs go in as 1.
    const auto number = [=](u64 v) { return (v & 0x7fff) > (half ? 0x7c00u : 0x7f80u); };
    const auto sign = [&](const char* op, auto&& f) {
      const std::string inf = half ? "31744" : "32640";
      add(
          rows,
          "{ .reg .b16 m; .reg .pred n; and.b16 m, $1, 32767; setp.gt.u16 n, m, " + inf +
              "; selp.b16 $1, 1, $1, n; " + op + "." + s.name + " $0, $1; }",
          s.type, {s.type}, [=](const u64* v) { return f(number(v[0]) ? 1 : v[0]); },
          half ? 75 : 80);
    };
    sign("neg", [](u64 v) { return v ^ 0x8000; });
    sign("abs", [](u64 v) { return v & 0x7fff; });
    // Packed: on numbers, made by clearing one exponent bit.
    const std::string clear = half ? "0xbfffbfff" : "0xbfffbfff";
    for (const bool negate : {false, true})
      add(
          rows,
          "and.b32 $1, $1, " + clear + "; " + (negate ? "neg." : "abs.") + s.pair + " $0, $1;",
          s.pair_type, {s.pair_type},
          [=](const u64* v) {
            const u64 x = v[0] & 0xbfffbfff;
            return negate ? x ^ 0x80008000 : x & 0x7fff7fff;
          },
          half ? 75 : 80);
  }
  return rows;
}
VGPU_FORMS(SmallFamilies, tidy(small_rows()));

}  // namespace
}  // namespace vgpu::test
