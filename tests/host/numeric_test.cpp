// fp16 and bf16 as bits (host/core/numeric.h) against the compiler's own conversions and CUDA's.
#include "host/core/numeric.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#if __has_include(<cuda_bf16.h>)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define QKV_TEST_CUDA_TYPES 1
#else
#define QKV_TEST_CUDA_TYPES 0
#endif

namespace qkv::test {
namespace {

using host::Bfloat;
using host::Half;

// Every 257th float, all that a 16-bit type can hold, and the floats around the middle between two
// of these, where rounding decides.
template <class Visit>
void each_float(Visit&& visit) {
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 257) {
    visit(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const auto half = std::bit_cast<uint32_t>(host::to_float(Half{static_cast<uint16_t>(code)}));
    for (uint32_t middle : {code << 16 | 0x8000u, half, half + 0x1000u}) {
      for (uint32_t step : {0xffffffffu, 0u, 1u}) visit(std::bit_cast<float>(middle + step));
    }
  }
}

// bf16 by arithmetic alone: the nearer of the two neighbours, the even one in the middle.
uint16_t nearest_bfloat(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const auto low = static_cast<uint16_t>(bits >> 16);
  const auto rest = bits & 0xffffu;
  return static_cast<uint16_t>(low + (rest > 0x8000u || (rest == 0x8000u && (low & 1) != 0)));
}

TEST(Numeric, HalfToFloatOfAllCodes) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const float got = host::to_float(Half{static_cast<uint16_t>(code)});
    const float want = std::bit_cast<_Float16>(static_cast<uint16_t>(code));
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << code;
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want)) << code;
    }
  }
}

TEST(Numeric, BfloatToFloatOfAllCodes) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const Bfloat x{static_cast<uint16_t>(code)};
    const float got = host::to_float(x);
    ASSERT_EQ(std::bit_cast<uint32_t>(got), code << 16);
    if (!std::isnan(got)) {
      ASSERT_EQ(host::from_float<Bfloat>(got).bits, code);
    }
  }
}

TEST(Numeric, HalfSurvivesTheWayThroughFloat) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const Half x{static_cast<uint16_t>(code)};
    const float wide = host::to_float(x);
    const Half back = host::from_float<Half>(wide);
    if (std::isnan(wide)) {
      ASSERT_TRUE(std::isnan(host::to_float(back))) << code;
    } else {
      ASSERT_EQ(back.bits, x.bits);
    }
  }
}

TEST(Numeric, FloatToHalfRoundsAsTheCompiler) {
  each_float([](float x) {
    const uint16_t got = host::from_float<Half>(x).bits;
    const _Float16 want = static_cast<_Float16>(x);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(host::to_float(Half{got})));
    } else {
      ASSERT_EQ(got, std::bit_cast<uint16_t>(want)) << std::hexfloat << x;
    }
  });
}

TEST(Numeric, FloatToBfloatRoundsToNearestEven) {
  each_float([](float x) {
    const uint16_t got = host::from_float<Bfloat>(x).bits;
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(host::to_float(Bfloat{got})));
    } else {
      ASSERT_EQ(got, nearest_bfloat(x)) << std::hexfloat << x;
    }
  });
}

TEST(Numeric, Limits) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(host::to_float(host::from_float<Half>(65504.0f)), 65504.0f);
  EXPECT_EQ(host::to_float(host::from_float<Half>(65519.996f)), 65504.0f);
  EXPECT_EQ(host::to_float(host::from_float<Half>(65520.0f)), kInf);
  EXPECT_EQ(host::from_float<Half>(-0.0f).bits, 0x8000u);
  EXPECT_EQ(host::from_float<Half>(0x1p-24f).bits, 1u);
  EXPECT_EQ(host::from_float<Half>(0x1p-25f).bits, 0u);  // the middle: to even
  EXPECT_EQ(host::from_float<Half>(0x1.000002p-25f).bits, 1u);
  EXPECT_EQ(host::to_float(host::from_float<Bfloat>(std::numeric_limits<float>::max())), kInf);
}

#if QKV_TEST_CUDA_TYPES
TEST(Numeric, FloatToHalfRoundsAsCuda) {
  each_float([](float x) {
    if (std::isnan(x)) return;
    const __half_raw half = __float2half_rn(x);
    ASSERT_EQ(host::from_float<Half>(x).bits, half.x) << std::hexfloat << x;
  });
}

TEST(Numeric, FloatToBfloatRoundsAsCuda) {
  each_float([](float x) {
    if (std::isnan(x)) return;
    const __nv_bfloat16_raw bfloat = __float2bfloat16_rn(x);
    ASSERT_EQ(host::from_float<Bfloat>(x).bits, bfloat.x) << std::hexfloat << x;
  });
}
#endif

}  // namespace
}  // namespace qkv::test
