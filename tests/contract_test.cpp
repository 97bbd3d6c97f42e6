// Every case of cases.cpp against the oracle, through the C ABI. Linked with a place, this is a
// test of the backend that computes there.
#include <gtest/gtest.h>

#include "tests/built_problem.h"
#include "tests/tolerance.h"

namespace qkv::test {
namespace {

class Contract : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string reason = place().missing(); !reason.empty()) GTEST_SKIP() << reason;
  }
  void TearDown() override { place().set_threads(0); }

  const Case& row() const { return GetParam(); }

  // The case as built and run; every run has the same inputs.
  std::unique_ptr<BuiltProblem> run(const BuildOptions& options, Api api) {
    auto built = std::make_unique<BuiltProblem>(row(), options);
    EXPECT_EQ(built->run(api), QKV_SUCCESS) << qkv_last_error() << '\n' << replay(row());
    EXPECT_EQ(built->damage(), "") << replay(row());
    return built;
  }
};

// One result, whatever lies in unused slots, whatever the outputs held before, through either way
// to call, with any number of threads, as often as it runs; and this result is the oracle's.
TEST_P(Contract, Holds) {
  const auto first = run({.seed = test_seed(), .fill = Fill::kZero}, Api::kOneShot);
  const Tolerance tolerance(first->oracle_problem());
  ASSERT_TRUE(tolerance.accepts(*first));

  int runs = 0;
  for (Fill fill : {Fill::kNaN, Fill::kPositiveInf, Fill::kNegativeInf, Fill::kMax}) {
    place().set_threads(1 + runs % 3);
    const auto again = run({.seed = test_seed(),
                            .fill = fill,
                            .poison = static_cast<unsigned char>(runs % 2 == 0 ? 0xa5 : 0xff)},
                           runs % 2 == 0 ? Api::kPlan : Api::kOneShot);
    ASSERT_EQ(again->output_bits(), first->output_bits())
        << "run " << runs << " gave another result\n"
        << replay(row());
    ++runs;
  }

  // Once more with every buffer at the edge of memory that may be touched. Its alignment differs,
  // which may change the last bits.
  const auto edge = run({.seed = test_seed(), .fit = Memory::Fit::kExact}, Api::kOneShot);
  EXPECT_TRUE(tolerance.accepts(*edge));
}

INSTANTIATE_TEST_SUITE_P(Cases, Contract, testing::ValuesIn(all_cases()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace qkv::test
