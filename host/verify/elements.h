// Elements of tensors in tests: bits to numbers and back, and the spacing of numbers.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "host/core/numeric.h"
#include "host/ops/attention/problem.h"

namespace qkv::verify {

// For sums and products that int64 may not hold. GCC knows no `__extension__ using`.
__extension__ typedef __int128 Wide;  // NOLINT(modernize-use-using)

inline constexpr double kInf = std::numeric_limits<double>::infinity();

template <class T>
T read(const void* from) {
  T x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

template <class T>
void write(void* to, T x) {
  std::memcpy(to, &x, sizeof x);
}

inline double load(qkv_type type, const void* from) {
  switch (type) {
    case QKV_TYPE_F32:
      return read<float>(from);
    case QKV_TYPE_F16:
      return host::to_float(read<host::Half>(from));
    case QKV_TYPE_BF16:
      return host::to_float(read<host::Bfloat>(from));
    case QKV_TYPE_I32:
      return read<int32_t>(from);
    case QKV_TYPE_I64:
      return static_cast<double>(read<int64_t>(from));
    default:
      return read<uint8_t>(from);
  }
}

// x to the nearest element (floats: through fp32, as the library does it).
inline void store(qkv_type type, void* to, double x) {
  switch (type) {
    case QKV_TYPE_F32:
      return write(to, static_cast<float>(x));
    case QKV_TYPE_F16:
      return write(to, host::from_float<host::Half>(static_cast<float>(x)));
    case QKV_TYPE_BF16:
      return write(to, host::from_float<host::Bfloat>(static_cast<float>(x)));
    case QKV_TYPE_I32:
      return write(to, static_cast<int32_t>(x));
    case QKV_TYPE_I64:
      return write(to, static_cast<int64_t>(x));
    default:
      return write(to, static_cast<uint8_t>(x));
  }
}

// Digits of a float type's significand, and the exponent of its smallest normal number.
struct Format {
  int digits, min_exponent;
};

inline Format format(qkv_type type) {
  switch (type) {
    case QKV_TYPE_F16:
      return {11, -14};
    case QKV_TYPE_BF16:
      return {8, -126};
    default:
      return {24, -126};
  }
}

// The largest relative error of one rounding to nearest.
inline double unit_roundoff(qkv_type type) { return std::ldexp(1.0, -format(type).digits); }

// The distance of numbers at |x|.
inline double ulp(qkv_type type, double x) {
  const Format f = format(type);
  const int exponent = x == 0 ? f.min_exponent : std::max(std::ilogb(x), f.min_exponent);
  return std::ldexp(1.0, exponent - f.digits + 1);
}

inline double round_to(qkv_type type, double x) {
  uint64_t bits = 0;
  store(type, &bits, x);
  return load(type, &bits);
}

// Reproducible pseudo-random numbers: splitmix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  // In [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  // In [first, last].
  int64_t integer(int64_t first, int64_t last) {
    return first + static_cast<int64_t>(bits() % static_cast<uint64_t>(last - first + 1));
  }
  // Mean 0, variance 1, at most 6: the sum of twelve uniform numbers less its mean.
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }

 private:
  uint64_t state_;
};

}  // namespace qkv::verify
