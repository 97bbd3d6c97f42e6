// Families of integer and bit instructions. PTX ISA 9.0 sections 9.7.1, 9.7.2, 9.7.6 to 9.7.8.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "tests/scalar_forms.h"

namespace vgpu::test {
namespace {

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
      __extension__ typedef unsigned __int128 UnsignedWide;
      const Wide a = t.is_signed || t.bits < 64 ? Wide{t.value(v[0])} : Wide{v[0]};
      const Wide b = t.is_signed || t.bits < 64 ? Wide{t.value(v[1])} : Wide{v[1]};
      // Unsigned: of the largest u64 the product needs all 128 bits.
      return static_cast<u64>((static_cast<UnsignedWide>(a) * static_cast<UnsignedWide>(b)) >>
                              t.bits);
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
      add(rows, "mul.wide" + suffix, wide, two, [t](const u64* v) {
        return static_cast<u64>(t.value(v[0])) * static_cast<u64>(t.value(v[1]));
      });
      add(rows, "mad.wide" + suffix, wide, {t.type, t.type, wide}, [t](const u64* v) {
        return static_cast<u64>(t.value(v[0])) * static_cast<u64>(t.value(v[1])) + v[2];
      });
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

}  // namespace
}  // namespace vgpu::test
