// Table-driven tests of single instructions: a row is the instruction, the types of its operands
// and the host arithmetic that says what it gives.
#pragma once

#include <gtest/gtest.h>

#include <cfenv>
#include <functional>
#include <string>
#include <vector>

#include "common/types.h"

namespace vgpu::test {

enum class T : u8 {
  b16,
  b32,
  b64,
  u16,
  s16,
  u32,
  s32,
  u64,
  s64,
  f16,
  f16x2,
  bf16,
  bf16x2,
  f32,
  f64,
  pred
};

// Operands arrive as raw bits.
using Expected = std::function<u64(const u64* in)>;

struct Form {
  std::string
      text;  // opcode, or whole statements with $0 for the result and $1, $2, ... for inputs
  T result;
  std::vector<T> inputs;
  Expected expected;
  double ulp = 0;       // allowed error of floating-point results; 0: the same bits
  double absolute = 0;  // or an absolute one, for sin and cos
  int needs = 75;       // compute capability
};

std::string form_name(const Form& form);
// Runs special values against each other and random ones; reports the first few differences.
void check_form(const Form& form);

// Reinterpretations for the tables.
inline float f32(u64 raw) { return bits<float>(static_cast<u32>(raw)); }
inline double f64(u64 raw) { return bits<double>(raw); }
inline u64 raw(float f) { return bits<u32>(f); }
inline u64 raw(double f) { return bits<u64>(f); }
inline i32 s32(u64 raw) { return static_cast<i32>(static_cast<u32>(raw)); }
inline u32 u32_(u64 raw) { return static_cast<u32>(raw); }
inline i64 s64(u64 raw) { return static_cast<i64>(raw); }
inline i16 s16(u64 raw) { return static_cast<i16>(static_cast<u16>(raw)); }
inline u64 raw(i32 v) { return static_cast<u32>(v); }
template <class S>
u64 wide(S v) {
  return static_cast<u64>(v);
}
inline u64 clamp32(i64 v) {
  return static_cast<u32>(v > 2147483647 ? 2147483647 : v < -2147483648ll ? -2147483648ll : v);
}
// f() in another rounding mode.
template <class F>
u64 rounded(int mode, F f) {
  std::fesetround(mode);
  volatile auto r = f();
  std::fesetround(FE_TONEAREST);
  return raw(decltype(f()){r});
}

// 16-bit floats by a decoder of their own, bit by bit from the definition of the format.
double half_value(u64 raw);
double bf16_value(u64 raw);
// The NaNs of both halves made equal; `infinity` is the format's.
inline u64 tidy(u64 v, u64 infinity) {
  for (int i = 0; i < 32; i += 16)
    if ((v >> i & 0x7fff) > infinity) v = (v & ~(u64{0xffff} << i)) | u64{0x7fff} << i;
  return v;
}
// The nearest 16-bit code by search over all of them, ties to even.
u64 nearest_half(double v);
u64 nearest_bf16(double v);

}  // namespace vgpu::test

// One gtest per row.
#define VGPU_FORMS(suite, rows)                                                        \
  class suite : public testing::TestWithParam<vgpu::test::Form> {};                    \
  TEST_P(suite, MatchesHostArithmetic) { vgpu::test::check_form(GetParam()); }         \
  INSTANTIATE_TEST_SUITE_P(Ptx, suite, testing::ValuesIn(rows), [](const auto& info) { \
    return vgpu::test::form_name(info.param) + "_" + std::to_string(info.index);       \
  })
