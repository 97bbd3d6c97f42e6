// Every kernel instance of kernels.inc is launched by some case of the contract test. The cases say
// which, by the plan; that they do run is the contract test's.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "kernels/policy.h"
#include "tests/built_problem.h"
#include "tests/cases.h"
#include "tests/place.h"

namespace qkv::test {
namespace {

const char* type_constant(qkv_type type) {
  return type == QKV_TYPE_F32 ? "F32" : type == QKV_TYPE_F16 ? "F16" : "BF16";
}

// The row of kernels.inc that a kernel launches for a case.
std::string instance(const std::string& kernel, const Case& row) {
  std::string name = kernel + " " + type_constant(row.type);
  if (kernel == "simt_forward") {
    const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(row.d_v));
    return name + " " + std::to_string(policy.max_dim);
  }
  name += row.score == QKV_SCORE_DOT ? " Dot" : " Additive";
  return name + (row.selection == QKV_SELECT_SOFT ? " Soft" : " Hard");
}

TEST(Instances, EveryOneIsLaunched) {
  if (const std::string reason = place().missing(); !reason.empty()) GTEST_SKIP() << reason;
  std::map<std::string, int> launches;
  for (const Case& row : all_cases()) {
    if (row.batch == 0 || row.s_q == 0) continue;
    const BuiltProblem built(row, {.seed = test_seed()});
    const qkv_attention_desc desc = built.desc();
    qkv_query_result result{};
    result.struct_size = sizeof result;
    ASSERT_EQ(qkv_query(&desc, &result), QKV_SUCCESS) << qkv_last_error();
    ASSERT_EQ(result.supported, 1) << row << '\n' << result.reasons;
    ++launches[instance(result.kernel, row)];
  }
#define QKV_SIMT_FORWARD(type, max_dim) \
  EXPECT_GT(launches["simt_forward " #type " " #max_dim], 0) << #type ", " #max_dim;
#define QKV_SIMT_GENERAL(type, score, selection)                          \
  EXPECT_GT(launches["simt_general " #type " " #score " " #selection], 0) \
      << #type ", " #score ", " #selection;
#include "kernels/kernels.inc"
}

}  // namespace
}  // namespace qkv::test
