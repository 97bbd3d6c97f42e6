// Probes (host/verify/probes.h) on the place that is linked.
#include "host/verify/probes.h"

#include <gtest/gtest.h>

#include "tests/support/verify.h"

namespace qkv::test {
namespace {

class Probe : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string reason = place().missing(); !reason.empty()) GTEST_SKIP() << reason;
    if (const std::string reason = left_out(row()); !reason.empty()) GTEST_SKIP() << reason;
  }

  const Case& row() const { return GetParam(); }
};

TEST_P(Probe, T2_Selection) {
  EXPECT_EQ(selection_faults(row(), test_seed()), "") << replay(row());
}

TEST_P(Probe, T2_Leak) { EXPECT_EQ(leak_faults(row(), test_seed()), "") << replay(row()); }

INSTANTIATE_TEST_SUITE_P(Rows, Probe, testing::ValuesIn(probe_rows()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace qkv::test
