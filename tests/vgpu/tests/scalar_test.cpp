// Whole families of scalar instructions, every type and rounding that the compiler emits, against
// host arithmetic. PTX ISA 9.0 sections 9.7.1 to 9.7.8 and 9.7.9.21 (cvt). What is special about
// single instructions is in integer_test.cpp and float_test.cpp.
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tests/forms.h"

namespace vgpu::test {
namespace {

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
constexpr IntegerType kIntegers[] = {
    {"u16", T::u16, 16, false}, {"s16", T::s16, 16, true},  {"u32", T::u32, 32, false},
    {"s32", T::s32, 32, true},  {"u64", T::u64, 64, false}, {"s64", T::s64, 64, true},
};
constexpr IntegerType kBits[] = {
    {"b16", T::b16, 16, false}, {"b32", T::b32, 32, false}, {"b64", T::b64, 64, false}};

enum Rounding { kNearest, kZero, kDown, kUp };
constexpr Rounding kRoundings[] = {kNearest, kZero, kDown, kUp};
constexpr const char* kSuffix[] = {"rn", "rz", "rm", "rp"};
constexpr int kModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};

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

u64 to_small(long double v, Rounding rounding, double (*value)(u64), u64 infinity) {
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
u64 to_half(long double v, Rounding r = kNearest) { return to_small(v, r, half_value, 0x7c00); }
u64 to_brain(long double v, Rounding r = kNearest) { return to_small(v, r, bf16_value, 0x7f80); }

// One small format: name, packed name, decoder, encoder.
struct Small {
  const char *name, *pair;
  T type, pair_type;
  double (*value)(u64);
  u64 (*code)(long double, Rounding);
  int base;  // compute capability of fma, 90 of add and mul for bf16
};
const Small kHalf = {"f16", "f16x2", T::f16, T::f16x2, half_value, to_half, 75};
const Small kBrain = {"bf16", "bf16x2", T::bf16, T::bf16x2, bf16_value, to_brain, 80};

using Rows = std::vector<Form>;
void add(Rows& rows, const std::string& text, T result, std::vector<T> inputs, Expected expected,
         int needs = 75, double ulp = 0, double absolute = 0) {
  rows.push_back({text, result, std::move(inputs), std::move(expected), ulp, absolute, needs});
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

// --- integers

Rows integer_rows() {
  Rows rows;
  for (const IntegerType& t : kIntegers) {
    const std::string suffix = std::string(".") + t.name;
    const std::vector<T> two = {t.type, t.type};
    add(rows, "add" + suffix, t.type, two, [](const u64* v) { return v[0] + v[1]; });
    add(rows, "sub" + suffix, t.type, two, [](const u64* v) { return v[0] - v[1]; });
    add(rows, "mul.lo" + suffix, t.type, two, [](const u64* v) { return v[0] * v[1]; });
    add(rows, "mad.lo" + suffix, t.type, {t.type, t.type, t.type},
        [](const u64* v) { return v[0] * v[1] + v[2]; });
    add(rows, "mul.hi" + suffix, t.type, two, [t](const u64* v) {
      __extension__ typedef __int128 Wide;
      const Wide a = t.is_signed || t.bits < 64 ? Wide{t.value(v[0])} : Wide{v[0]};
      const Wide b = t.is_signed || t.bits < 64 ? Wide{t.value(v[1])} : Wide{v[1]};
      return static_cast<u64>((a * b) >> t.bits);
    });
    add(rows, "min" + suffix, t.type, two,
        [t](const u64* v) { return t.less(v[1], v[0]) ? v[1] : v[0]; });
    add(rows, "max" + suffix, t.type, two,
        [t](const u64* v) { return t.less(v[0], v[1]) ? v[1] : v[0]; });
    // Division truncates; by zero it gives anything, so the divisor is made odd.
    const std::string odd = std::string("or.b") + std::to_string(t.bits) + " $2, $2, 1; ";
    const auto divisor = [t](const u64* v) { return t.value(v[1] | 1); };
    const auto overflows = [t, divisor](const u64* v) {
      return t.is_signed && divisor(v) == -1;  // -x, also of the smallest
    };
    add(rows, odd + "div" + suffix + " $0, $1, $2;", t.type, two, [=](const u64* v) {
      if (overflows(v)) return ~v[0] + 1;
      return t.is_signed ? static_cast<u64>(t.value(v[0]) / divisor(v))
                         : static_cast<u64>(t.value(v[0])) / static_cast<u64>(divisor(v));
    });
    add(rows, odd + "rem" + suffix + " $0, $1, $2;", t.type, two, [=](const u64* v) {
      if (overflows(v)) return u64{0};
      return t.is_signed ? static_cast<u64>(t.value(v[0]) % divisor(v))
                         : static_cast<u64>(t.value(v[0])) % static_cast<u64>(divisor(v));
    });
    add(rows, "shr" + suffix, t.type, {t.type, T::u32}, [t](const u64* v) {
      const u64 n =
          std::min<u64>(v[1] & 0xffffffff, static_cast<u64>(t.bits) - (t.is_signed ? 1 : 0));
      if (n >= 64) return u64{0};
      const u64 a = static_cast<u64>(t.value(v[0]));
      return t.is_signed ? static_cast<u64>(t.value(v[0]) >> n) : a >> n;
    });
    if (t.is_signed) {
      add(rows, "abs" + suffix, t.type, {t.type},
          [t](const u64* v) { return t.value(v[0]) < 0 ? ~v[0] + 1 : v[0]; });
      add(rows, "neg" + suffix, t.type, {t.type}, [](const u64* v) { return ~v[0] + 1; });
    }
    add(rows, "sad" + suffix, t.type, {t.type, t.type, t.type},
        [t](const u64* v) { return v[2] + (t.less(v[0], v[1]) ? v[1] - v[0] : v[0] - v[1]); });
    if (t.bits < 64) {
      const T wide = t.bits == 16 ? (t.is_signed ? T::s32 : T::u32) : t.is_signed ? T::s64 : T::u64;
      add(rows, "mul.wide" + suffix, wide, two,
          [t](const u64* v) { return static_cast<u64>(t.value(v[0]) * t.value(v[1])); });
      add(rows, "mad.wide" + suffix, wide, {t.type, t.type, wide},
          [t](const u64* v) { return static_cast<u64>(t.value(v[0]) * t.value(v[1])) + v[2]; });
    }
    add(rows, "selp" + suffix, t.type, {t.type, t.type, T::pred},
        [](const u64* v) { return v[2] != 0 ? v[0] : v[1]; });
    add(rows, "slct" + suffix + ".s32", t.type, {t.type, t.type, T::s32},
        [](const u64* v) { return s32(v[2]) >= 0 ? v[0] : v[1]; });
    add(rows, "mov" + suffix, t.type, {t.type}, [](const u64* v) { return v[0]; });
    // Comparisons, alone and combined with a predicate.
    const auto compare = [&](const char* op, auto&& holds) {
      const std::string name = std::string(op) + suffix;
      add(rows, "setp." + name, T::pred, two, [=](const u64* v) { return u64{holds(v[0], v[1])}; });
      add(rows, "set." + std::string(op) + ".u32" + suffix, T::u32, two,
          [=](const u64* v) { return holds(v[0], v[1]) ? u64{0xffffffff} : 0; });
      add(rows, "set." + std::string(op) + ".f32" + suffix, T::f32, two,
          [=](const u64* v) { return holds(v[0], v[1]) ? raw(1.0f) : 0; });
      add(rows, std::string("setp.") + op + ".and" + suffix, T::pred, {t.type, t.type, T::pred},
          [=](const u64* v) { return u64{holds(v[0], v[1]) && v[2] != 0}; });
      add(rows,
          std::string("{ .reg .pred other; setp.") + op + ".or" + suffix +
              " other|$0, $1, $2, $3; }",
          T::pred, {t.type, t.type, T::pred},
          [=](const u64* v) { return u64{!holds(v[0], v[1]) || v[2] != 0}; });
    };
    compare("eq", [t](u64 a, u64 b) { return t.exact(a) == t.exact(b); });
    compare("ne", [t](u64 a, u64 b) { return t.exact(a) != t.exact(b); });
    compare("lt", [t](u64 a, u64 b) { return t.exact(a) < t.exact(b); });
    compare("le", [t](u64 a, u64 b) { return t.exact(a) <= t.exact(b); });
    compare("gt", [t](u64 a, u64 b) { return t.exact(a) > t.exact(b); });
    compare("ge", [t](u64 a, u64 b) { return t.exact(a) >= t.exact(b); });
  }
  for (const IntegerType& t : kBits) {
    const std::string suffix = std::string(".") + t.name;
    const std::vector<T> two = {t.type, t.type};
    add(rows, "and" + suffix, t.type, two, [](const u64* v) { return v[0] & v[1]; });
    add(rows, "or" + suffix, t.type, two, [](const u64* v) { return v[0] | v[1]; });
    add(rows, "xor" + suffix, t.type, two, [](const u64* v) { return v[0] ^ v[1]; });
    add(rows, "not" + suffix, t.type, {t.type}, [](const u64* v) { return ~v[0]; });
    add(rows, "cnot" + suffix, t.type, {t.type}, [](const u64* v) { return u64{v[0] == 0}; });
    add(rows, "selp" + suffix, t.type, {t.type, t.type, T::pred},
        [](const u64* v) { return v[2] != 0 ? v[0] : v[1]; });
    add(rows, "mov" + suffix, t.type, {t.type}, [](const u64* v) { return v[0]; });
    add(rows, "shl" + suffix, t.type, {t.type, T::u32}, [t](const u64* v) {
      const u64 n = v[1] & 0xffffffff;
      return n >= static_cast<u64>(t.bits) ? u64{0} : v[0] << n;
    });
    add(rows, "setp.eq" + suffix, T::pred, two, [](const u64* v) { return u64{v[0] == v[1]}; });
    add(rows, "setp.ne" + suffix, T::pred, two, [](const u64* v) { return u64{v[0] != v[1]}; });
    if (t.bits == 16) continue;
    add(rows, "brev" + suffix, t.type, {t.type}, [t](const u64* v) {
      u64 d = 0;
      for (int i = 0; i < t.bits; ++i) d |= (v[0] >> i & 1) << (t.bits - 1 - i);
      return d;
    });
  }
  // Sums of 96 and 128 bits, a word at a time: the carry goes on.
  __extension__ typedef unsigned __int128 Wide;
  add(rows, "{ .reg .u32 a, b; add.cc.u32 a, $1, $2; addc.cc.u32 b, $1, $3; addc.u32 $0, $2, $3; }",
      T::u32, {T::u32, T::u32, T::u32}, [](const u64* v) {
        const Wide x = Wide{v[0]} | Wide{v[0]} << 32 | Wide{v[1]} << 64,
                   y = Wide{v[1]} | Wide{v[2]} << 32 | Wide{v[2]} << 64;
        return static_cast<u64>((x + y) >> 64) & 0xffffffff;
      });
  add(rows, "{ .reg .u32 a, b; sub.cc.u32 a, $1, $2; subc.cc.u32 b, $1, $3; subc.u32 $0, $2, $3; }",
      T::u32, {T::u32, T::u32, T::u32}, [](const u64* v) {
        const Wide x = Wide{v[0]} | Wide{v[0]} << 32 | Wide{v[1]} << 64,
                   y = Wide{v[1]} | Wide{v[2]} << 32 | Wide{v[2]} << 64;
        return static_cast<u64>((x - y) >> 64) & 0xffffffff;
      });
  add(rows, "{ .reg .u64 a; add.cc.u64 a, $1, $2; addc.u64 $0, $3, 0; }", T::u64,
      {T::u64, T::u64, T::u64},
      [](const u64* v) { return v[2] + static_cast<u64>((Wide{v[0]} + v[1]) >> 64); });
  add(rows,
      "{ .reg .u32 a, b, c; mad.lo.cc.u32 a, $1, $2, $3; madc.hi.cc.u32 b, $1, $2, $3; "
      "madc.lo.cc.u32 c, $1, $3, $2; madc.hi.u32 $0, $1, $3, $2; }",
      T::u32, {T::u32, T::u32, T::u32}, [](const u64* v) {
        const Wide first = Wide{v[0] * v[1]}, second = Wide{v[0] * v[2]} << 64;
        const Wide addend = Wide{v[2]} | Wide{v[2]} << 32 | Wide{v[1]} << 64 | Wide{v[1]} << 96;
        return static_cast<u64>((first + second + addend) >> 96) & 0xffffffff;
      });
  // Products of bytes and halves.
  for (const char* types : {".s32.s32", ".s32.u32", ".u32.s32", ".u32.u32"}) {
    const bool sa = types[1] == 's', sb = types[5] == 's';
    const auto byte = [](u64 v, int i, bool sign) {
      const u64 b = v >> (8 * i) & 255;
      return sign && b > 127 ? static_cast<i64>(b) - 256 : static_cast<i64>(b);
    };
    add(rows, std::string("dp4a") + types, T::b32, {T::b32, T::b32, T::b32}, [=](const u64* v) {
      u64 d = v[2];
      for (int i = 0; i < 4; ++i) d += static_cast<u64>(byte(v[0], i, sa) * byte(v[1], i, sb));
      return d;
    });
    for (const bool high : {false, true})
      add(rows, std::string(high ? "dp2a.hi" : "dp2a.lo") + types, T::b32, {T::b32, T::b32, T::b32},
          [=](const u64* v) {
            u64 d = v[2];
            for (int i = 0; i < 2; ++i) {
              const u64 half = v[0] >> (16 * i) & 0xffff;
              const i64 a =
                  sa && half > 0x7fff ? static_cast<i64>(half) - 65536 : static_cast<i64>(half);
              d += static_cast<u64>(a * byte(v[1], i + (high ? 2 : 0), sb));
            }
            return d;
          });
  }
  // The n-th set bit from a place on, upwards or downwards.
  add(rows, "and.b32 $2, $2, 31; and.b32 $3, $3, 15; sub.s32 $3, $3, 7; fns.b32 $0, $1, $2, $3;",
      T::b32, {T::b32, T::u32, T::s32}, [](const u64* v) {
        const int base = static_cast<int>(v[1] & 31), offset = static_cast<int>(v[2] & 15) - 7;
        if (offset == 0) return (v[0] >> base & 1) != 0 ? static_cast<u64>(base) : 0xffffffff;
        int left = std::abs(offset);
        for (int i = base; i >= 0 && i<32; i += offset> 0 ? 1 : -1)
          if ((v[0] >> i & 1) != 0 && --left == 0) return static_cast<u64>(i);
        return u64{0xffffffff};
      });
  return rows;
}
VGPU_FORMS(IntegerFamilies, integer_rows());

// --- f32 and f64

template <class V>
V of(u64 raw);
template <>
float of<float>(u64 raw) {
  return f32(raw);
}
template <>
double of<double>(u64 raw) {
  return f64(raw);
}
template <class V>
V least(V a, V b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == 0 && b == 0) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

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

// --- f16 and bf16

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
u64 relu(u64 code, const Small& s) {
  const double v = s.value(code);
  return v != v ? 0x7fff : v < 0 || v == 0 ? 0 : code;
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
// NaNs of packed results are one code on either side.
Rows tidy(Rows rows) {
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
VGPU_FORMS(SmallFamilies, tidy(small_rows()));

// --- conversions

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
