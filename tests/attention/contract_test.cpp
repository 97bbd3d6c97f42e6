// Every case of cases.cpp against the oracle, through the C ABI. Linked with a place, this is a
// test of the backend that computes there.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "host/verify/pairwise.h"
#include "tests/support/verify.h"

namespace qkv::test {
namespace {

// The name and a hash of every result go to the file QKV_RESULT_HASHES, for who compares runs.
void record_hash(const Case& row, const std::vector<std::byte>& bits) {
  static const char* path = std::getenv("QKV_RESULT_HASHES");
  if (path == nullptr) return;
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const std::byte byte : bits) hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3u;
  std::ofstream(path, std::ios::app) << row.name << ' ' << hash << '\n';
}

class Contract : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string reason = place().missing(); !reason.empty()) GTEST_SKIP() << reason;
    if (const std::string reason = left_out(row()); !reason.empty()) GTEST_SKIP() << reason;
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

// T1 (accuracy), T3 (unused slots), T12 (overruns): one result, whatever lies in unused slots,
// whatever the outputs held before, through either way to call, with any number of threads, as
// often as it runs; and this result is the oracle's.
TEST_P(Contract, T1_T3_T12_Holds) {
  const auto first = run({.seed = test_seed(), .fill = Fill::kZero}, Api::kOneShot);
  const Tolerance tolerance(*first);
  ASSERT_TRUE(accepted(tolerance, *first));
  record_hash(row(), first->output_bits());

  constexpr Fill kOthers[] = {Fill::kNaN, Fill::kPositiveInf, Fill::kNegativeInf, Fill::kMax};
  for (uint64_t n = 0; n < test_repeats(); ++n) {
    place().set_threads(static_cast<int>(1 + n % 3));
    const auto again = run({.seed = test_seed(),
                            .fill = kOthers[(test_seed() + n) % 4],
                            .poison = static_cast<unsigned char>(n % 2 == 0 ? 0xa5 : 0xff)},
                           n % 2 == 0 ? Api::kPlan : Api::kOneShot);
    ASSERT_EQ(again->output_bits(), first->output_bits())
        << "repeat " << n << " gave another result\n"
        << replay(row());
  }

  // Once more with every buffer at the edge of memory that may be touched. Its alignment differs,
  // which may change the last bits.
  const auto edge = run({.seed = test_seed(), .fit = Memory::Fit::kExact}, Api::kOneShot);
  EXPECT_TRUE(accepted(tolerance, *edge));
}

TEST(Pairwise, EveryTwoOptionsMeet) {
  const Pairwise& table = pairwise();
  std::printf("%zu rows hold the %zu pairs of %zu values of %zu options\n", table.rows.size(),
              table.pairs, table.values, table.options);
  EXPECT_EQ(table.missed, 0);
  RecordProperty("rows", static_cast<int>(table.rows.size()));
}

INSTANTIATE_TEST_SUITE_P(Cases, Contract, testing::ValuesIn(all_cases()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace qkv::test
