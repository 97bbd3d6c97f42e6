// Every binary floating-point format up to 32 bits, by one encoder and one decoder.
//
// PTX ISA 9.0 section 5.2.2 (alternate floating-point data formats) and 5.2.3 (fp8, fp6, fp4).
#pragma once

#include <immintrin.h>

#include <cmath>

#include "common/types.h"

namespace vgpu {

enum class Rounding : u8 { kNearestEven, kZero, kDown, kUp, kNearestAway };

struct MiniFloat {
  enum class Specials : u8 {
    kIeee,     // top exponent holds infinity and NaN
    kNanOnly,  // e4m3: all ones is NaN, no infinity
    kNone,     // fp6, fp4: every code is a number
  };
  int exponent_bits;
  int mantissa_bits;
  Specials specials;

  constexpr int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  constexpr u32 sign_bit() const { return 1u << (exponent_bits + mantissa_bits); }
  constexpr u32 max_exponent() const { return (1u << exponent_bits) - 1; }
  constexpr u32 infinity() const { return max_exponent() << mantissa_bits; }
  constexpr u32 max_finite() const {
    return specials == Specials::kIeee      ? infinity() - 1
           : specials == Specials::kNanOnly ? sign_bit() - 2
                                            : sign_bit() - 1;
  }
  constexpr u32 nan() const { return specials == Specials::kNone ? max_finite() : sign_bit() - 1; }
};

inline constexpr MiniFloat kF16{5, 10, MiniFloat::Specials::kIeee};
inline constexpr MiniFloat kBf16{8, 7, MiniFloat::Specials::kIeee};
inline constexpr MiniFloat kTf32{8, 10, MiniFloat::Specials::kIeee};
inline constexpr MiniFloat kF32{8, 23, MiniFloat::Specials::kIeee};
inline constexpr MiniFloat kE5m2{5, 2, MiniFloat::Specials::kIeee};
inline constexpr MiniFloat kE4m3{4, 3, MiniFloat::Specials::kNanOnly};
inline constexpr MiniFloat kE3m2{3, 2, MiniFloat::Specials::kNone};
inline constexpr MiniFloat kE2m3{2, 3, MiniFloat::Specials::kNone};
inline constexpr MiniFloat kE2m1{2, 1, MiniFloat::Specials::kNone};

// Rounds `value` once to the format. `satfinite`: overflow and infinity give the largest number.
u32 encode(const MiniFloat& format, double value, Rounding rounding, bool satfinite);
double decode(const MiniFloat& format, u32 code);

// x + y in double, rounded to odd: a second rounding to <= 50 bits is then a single rounding.
double add_to_odd(double x, double y);

inline float half_to_float(u16 h) { return _cvtsh_ss(h); }
inline u16 float_to_half(float f) {
  const u16 h = _cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return f != f ? u16{0x7fff} : h;
}
inline float bf16_to_float(u16 h) { return bits<float>(static_cast<u32>(h) << 16); }
inline u16 float_to_bf16(float f) {
  const u32 u = bits<u32>(f);
  const u32 rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return f != f ? u16{0x7fff} : static_cast<u16>(rounded);
}

// fma rounded once to the 16-bit format; the product of two such numbers is exact in double.
inline u16 fma_half(u16 a, u16 b, u16 c) {
  const double s =
      add_to_odd(static_cast<double>(half_to_float(a)) * half_to_float(b), half_to_float(c));
  return static_cast<u16>(encode(kF16, s, Rounding::kNearestEven, false));
}
inline u16 fma_bf16(u16 a, u16 b, u16 c) {
  const double s =
      add_to_odd(static_cast<double>(bf16_to_float(a)) * bf16_to_float(b), bf16_to_float(c));
  return static_cast<u16>(encode(kBf16, s, Rounding::kNearestEven, false));
}

inline constexpr u32 kCanonicalNan = 0x7fffffffu;
inline float canonical(float f) { return f != f ? bits<float>(kCanonicalNan) : f; }
inline float flush(float f) {
  const u32 u = bits<u32>(f);
  return (u & 0x7f800000u) == 0 ? bits<float>(u & 0x80000000u) : f;
}
// NaN and -0 become +0.
inline float saturate(float f) { return f > 0.0f ? (f > 1.0f ? 1.0f : f) : 0.0f; }

}  // namespace vgpu
