// Suites whose tests run once for each element type, on the place that the program is built for.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/support/verify.h"

namespace qkv::test {

inline constexpr qkv_type kFloats[] = {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16};

class EachType : public testing::TestWithParam<qkv_type> {
 protected:
  void SetUp() override {
    if (const std::string reason = place().missing(); !reason.empty()) GTEST_SKIP() << reason;
  }
  // A case of the test's type.
  Case typed(Case row) const {
    row.type = GetParam();
    return row;
  }
};

// EACH_TYPE(Suite): the types of a suite derived from it; IN_FP32(Suite): that one alone.
#define EACH_TYPE(suite) OF_TYPES(suite, testing::ValuesIn(kFloats))
#define IN_FP32(suite) OF_TYPES(suite, testing::Values(QKV_TYPE_F32))
#define OF_TYPES(suite, types)                                                                    \
  INSTANTIATE_TEST_SUITE_P(Types, suite, types, [](const testing::TestParamInfo<qkv_type>& row) { \
    return std::string(type_label(row.param));                                                    \
  })

}  // namespace qkv::test
