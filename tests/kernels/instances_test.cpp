// Every instance of an attention kernel in kernels.inc is launched by some case of the contract
// test. The cases say which, by the plan; that they do run is the contract test's.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "host/verify/instances.h"
#include "host/verify/place.h"
#include "tests/support/verify.h"

namespace qkv::test {
namespace {

std::string plan_text(const qkv_attention_desc& desc) {
  qkv_plan* plan = nullptr;
  EXPECT_EQ(qkv_plan_create(&desc, &plan), QKV_SUCCESS) << qkv_last_error();
  std::string text(4096, '\0');
  EXPECT_EQ(qkv_plan_print(plan, text.data(), text.size(), nullptr), QKV_SUCCESS);
  qkv_plan_destroy(plan);
  return text;
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
    const std::string plan = plan_text(desc);
    ++launches[instance_of(result.kernel, row, plan)];
    ++launches[combine_of(row, plan)];
    ++launches[summary_of(plan)];
  }
  qkv_device_facts facts{};
  facts.struct_size = sizeof facts;
  ASSERT_EQ(qkv_device_query(0, &facts), QKV_SUCCESS) << qkv_last_error();
  const int32_t compute = facts.compute_major * 10 + facts.compute_minor;
  // What sm90_forward takes, nearly all, is left to other devices.
  const auto left_to_sm90 = [&](const Instance& one) {
    return compute == 90 && one.kernel == "sm80_forward";
  };
  // One multiprocessor has work without cutting keys, and sm80_hard and sm80_top_k need no fixed
  // split.
  const auto not_cut = [&](const Instance& one) {
    return (one.kernel == "hard_combine" || one.kernel == "top_k_combine") && facts.sm_count == 1;
  };
  for (const Instance& one : all_instances()) {
    if (one.kernel == "merge" || left_to_sm90(one) || not_cut(one)) continue;  // merge_test.cpp's
    EXPECT_EQ(launches[one.name] > 0, one.runs_on(compute)) << one.name;
  }
}

}  // namespace
}  // namespace qkv::test
