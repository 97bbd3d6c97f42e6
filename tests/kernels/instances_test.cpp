// Every instance of a forward kernel in kernels.inc is launched by some case of the contract test.
// The cases say which, by the plan; that they do run is the contract test's.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "host/verify/place.h"
#include "kernels/attention/simt_forward/policy.h"
#include "kernels/attention/sm80_forward/policy.h"
#include "kernels/attention/sm80_tf32x3/policy.h"
#include "tests/support/verify.h"

namespace qkv::test {
namespace {

const char* type_constant(qkv_type type) {
  return type == QKV_TYPE_F32 ? "F32" : type == QKV_TYPE_F16 ? "F16" : "BF16";
}

std::string plan_text(const qkv_attention_desc& desc) {
  qkv_plan* plan = nullptr;
  EXPECT_EQ(qkv_plan_create(&desc, &plan), QKV_SUCCESS) << qkv_last_error();
  std::string text(4096, '\0');
  EXPECT_EQ(qkv_plan_print(plan, text.data(), text.size(), nullptr), QKV_SUCCESS);
  qkv_plan_destroy(plan);
  return text;
}

// The row of kernels.inc that a kernel launches for a case.
std::string instance(const std::string& kernel, const Case& row, const qkv_attention_desc& desc) {
  std::string name = kernel + " " + type_constant(row.type);
  if (kernel == "simt_forward") {
    const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(row.d_v));
    return name + " " + std::to_string(policy.max_dim);
  }
  const bool rules = row.softcap > 0 || row.mask != kAbsent || row.bias != kAbsent || row.alibi;
  const auto dim = static_cast<int32_t>(std::max(row.d_qk, row.d_v));
  if (kernel == "sm80_tf32x3") {
    return kernel + " " + std::to_string(kernels::sm80_tf32x3_policy(dim, rules).max_dim) +
           (rules ? " true" : " false");
  }
  if (kernel == "sm90_forward") return name + (row.softcap > 0 ? " true" : " false");
  if (kernel == "sm80_forward") {
    using kernels::Sm80Variant;
    const auto named = [&](Sm80Variant variant, const char* label) {
      return name + " " + std::to_string(kernels::sm80_forward_policy(dim, variant).max_dim) +
             label;
    };
    if (rules) return named(Sm80Variant::kRules, " Rules");
    const auto tall = kernels::sm80_forward_policy(dim, Sm80Variant::kTall);
    const bool is_tall = plan_text(desc).find(std::to_string(tall.tile_q) + " queries x " +
                                              std::to_string(tall.tile_kv)) != std::string::npos;
    return is_tall ? named(Sm80Variant::kTall, " Tall") : named(Sm80Variant::kShort, " Short");
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
    ++launches[instance(result.kernel, row, desc)];
  }
  qkv_device_facts facts{};
  facts.struct_size = sizeof facts;
  ASSERT_EQ(qkv_device_query(0, &facts), QKV_SUCCESS) << qkv_last_error();
  const bool has_sm80 = facts.compute_major >= 8;
  const int compute = facts.compute_major * 10 + facts.compute_minor;
  const bool gains_by_tf32 = compute == 80 || compute == 90;
#define QKV_SIMT_FORWARD(type, max_dim) \
  EXPECT_GT(launches["simt_forward " #type " " #max_dim], 0) << #type ", " #max_dim;
#define QKV_SIMT_GENERAL(type, score, selection)                          \
  EXPECT_GT(launches["simt_general " #type " " #score " " #selection], 0) \
      << #type ", " #score ", " #selection;
  // What sm90_forward takes is left to other devices.
  const auto left_to_sm80 = [&](int max_dim, kernels::Sm80Variant variant) {
    return facts.compute_major != 9 || max_dim != 128 || variant == kernels::Sm80Variant::kRules;
  };
#define QKV_SM80_FORWARD(type, max_dim, variant)                                           \
  EXPECT_TRUE(!left_to_sm80(max_dim, kernels::Sm80Variant::k##variant) ||                  \
              (launches["sm80_forward " #type " " #max_dim " " #variant] > 0) == has_sm80) \
      << #type ", " #max_dim ", " #variant;
#define QKV_SM80_TF32X3(max_dim, rules)                                      \
  EXPECT_EQ(launches["sm80_tf32x3 " #max_dim " " #rules] > 0, gains_by_tf32) \
      << #max_dim ", " #rules;
#define QKV_SM90_FORWARD(type, softcap)                                                 \
  EXPECT_EQ(launches["sm90_forward " #type " " #softcap] > 0, facts.compute_major == 9) \
      << #type ", " #softcap;
#include "kernels/kernels.inc"
}

}  // namespace
}  // namespace qkv::test
