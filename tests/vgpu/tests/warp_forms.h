// Table-driven tests of instructions in which the lanes of a warp take part together.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "common/types.h"

namespace vgpu::test {

// Values of one warp: in[lane][operand], out[lane].
using WarpIn = std::array<std::array<u64, 3>, 32>;
struct WarpOut {
  std::array<u64, 32> d{};
  std::array<bool, 32> p{};
};

struct WarpForm {
  // Statements with $0 for the result, $p for the resulting predicate, $1, $2, $3 for inputs and
  // $q for input 3 as a predicate.
  std::string text;
  int bits;  // of $0 and $1; $2 and $3 have 32
  std::function<void(const WarpIn& in, WarpOut& out)> expected;
  // Overwrites random inputs with ones that the form wants.
  std::function<void(Random& random, WarpIn& in)> prepare{};
  u32 lanes = 0xffffffff;  // that execute it
  int needs = 75;
};

std::string warp_form_name(const WarpForm& form);
void check_warp_form(const WarpForm& form);

}  // namespace vgpu::test

#define VGPU_WARP_FORMS(suite, rows)                                                   \
  class suite : public testing::TestWithParam<vgpu::test::WarpForm> {};                \
  TEST_P(suite, MatchesHostArithmetic) { vgpu::test::check_warp_form(GetParam()); }    \
  INSTANTIATE_TEST_SUITE_P(Ptx, suite, testing::ValuesIn(rows), [](const auto& info) { \
    return vgpu::test::warp_form_name(info.param) + "_" + std::to_string(info.index);  \
  })
