#include "common/minifloat.h"

namespace vgpu {

u32 encode(const MiniFloat& format, double value, Rounding rounding, bool satfinite) {
  const u64 raw = bits<u64>(value);
  const bool negative = (raw >> 63) != 0;
  const u32 sign = negative ? format.sign_bit() : 0;
  if (std::isnan(value)) return format.nan();
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  const bool has_infinity = format.specials == MiniFloat::Specials::kIeee;
  const u32 overflow = satfinite || format.specials == MiniFloat::Specials::kNone
                           ? format.max_finite()
                       : has_infinity ? format.infinity()
                                      : format.nan();
  if (std::isinf(value)) return sign | overflow;

  // Scale so that one unit in the last place of the result is 1.0, then round to an integer.
  int exponent;
  std::frexp(magnitude, &exponent);  // magnitude = m * 2^exponent, m in [0.5, 1)
  const int min_exponent = 1 - format.bias();
  const int unbiased = std::max(exponent - 1, min_exponent);
  const double scaled = std::ldexp(magnitude, format.mantissa_bits - unbiased);
  double integer = std::floor(scaled);
  const double rest = scaled - integer;
  bool up = false;
  switch (rounding) {
    case Rounding::kNearestEven:
      up = rest > 0.5 || (rest == 0.5 && std::fmod(integer, 2.0) != 0);
      break;
    case Rounding::kNearestAway:
      up = rest >= 0.5;
      break;
    case Rounding::kZero:
      break;
    case Rounding::kDown:
      up = negative && rest > 0;
      break;
    case Rounding::kUp:
      up = !negative && rest > 0;
      break;
  }
  if (up) integer += 1;
  // The hidden bit carries into the exponent field by plain addition; subnormals have none.
  const u64 hidden = u64{1} << format.mantissa_bits;
  const u64 mantissa = static_cast<u64>(integer);
  u64 code = (static_cast<u64>(unbiased - min_exponent) << format.mantissa_bits) + mantissa;
  if (mantissa < hidden && unbiased == min_exponent) code = mantissa;
  if (code > format.max_finite()) {
    const bool toward_zero = rounding == Rounding::kZero ||
                             (rounding == Rounding::kDown && !negative) ||
                             (rounding == Rounding::kUp && negative);
    return sign | (toward_zero && has_infinity ? format.max_finite() : overflow);
  }
  return sign | static_cast<u32>(code);
}

double decode(const MiniFloat& format, u32 code) {
  const bool negative = (code & format.sign_bit()) != 0;
  const u32 magnitude = code & (format.sign_bit() - 1);
  const u32 exponent = magnitude >> format.mantissa_bits;
  const u32 mantissa = magnitude & ((1u << format.mantissa_bits) - 1);
  double value;
  if (format.specials == MiniFloat::Specials::kIeee && exponent == format.max_exponent()) {
    value = mantissa == 0 ? HUGE_VAL : std::nan("");
  } else if (format.specials == MiniFloat::Specials::kNanOnly && magnitude == format.nan()) {
    value = std::nan("");
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<double>(mantissa), 1 - format.bias() - format.mantissa_bits);
  } else {
    const u32 hidden = 1u << format.mantissa_bits;
    value = std::ldexp(static_cast<double>(mantissa | hidden),
                       static_cast<int>(exponent) - format.bias() - format.mantissa_bits);
  }
  return negative ? -value : value;
}

double add_to_odd(double x, double y) {
  const double sum = x + y;
  if (!std::isfinite(sum)) return sum;
  const double y_part = sum - x;
  const double error = (x - (sum - y_part)) + (y - y_part);
  if (error == 0) return sum;
  const u64 raw = bits<u64>(sum);
  if ((raw & 1) != 0) return sum;
  // Step toward the lost part, so that the last bit records that something was lost.
  const bool away = (error > 0) == (sum > 0);
  return bits<double>(away ? raw + 1 : raw - 1);
}

}  // namespace vgpu
