// Every kernel instance of kernels.inc is launched by some case of the contract test. The cases say
// which; that they do run is the contract test's.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "kernels/policy.h"
#include "tests/cases.h"
#include "tests/place.h"

namespace qkv::test {
namespace {

std::string instance(qkv_type type, int64_t max_dim) {
  const char* name = type == QKV_TYPE_F32 ? "F32" : type == QKV_TYPE_F16 ? "F16" : "BF16";
  return std::string(name) + ", " + std::to_string(max_dim);
}

TEST(Instances, EveryOneIsLaunched) {
  std::map<std::string, int> launches;
  for (const Case& row : all_cases()) {
    if (!place().takes(row) || row.batch == 0 || row.s_q == 0) continue;
    const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(row.d_v));
    ++launches[instance(row.type, policy.max_dim)];
  }
#define QKV_SIMT_FORWARD(type, max_dim) \
  EXPECT_GT(launches[instance(QKV_TYPE_##type, max_dim)], 0) << #type ", " #max_dim;
#include "kernels/kernels.inc"
}

}  // namespace
}  // namespace qkv::test
