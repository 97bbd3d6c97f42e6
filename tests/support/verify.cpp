#include "tests/support/verify.h"

#include <cstdlib>
#include <random>
#include <sstream>

namespace qkv::test {

uint64_t test_seed() {
  static const uint64_t seed = [] {
    const char* given = std::getenv("QKV_TEST_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : uint64_t{std::random_device{}()};
  }();
  return seed;
}

uint64_t test_repeats() {
  static const char* text = std::getenv("QKV_TEST_REPEATS");
  return text == nullptr ? 4 : std::strtoull(text, nullptr, 10);
}

std::string left_out(const Case& row) {
  static const char* named = std::getenv("QKV_TEST_KERNELS");
  if (named == nullptr) return {};
  const BuiltProblem built(row, {.seed = test_seed()});
  const qkv_attention_desc desc = built.desc();
  qkv_query_result result{};
  result.struct_size = sizeof result;
  if (qkv_query(&desc, &result) != QKV_SUCCESS || result.supported != 1) return {};
  const std::string list = std::string(",") + named + ",";
  if (list.find(std::string(",") + result.kernel + ",") != std::string::npos) return {};
  return std::string("planned on ") + result.kernel + ", which other runs test";
}

std::string replay(const Case& row) {
  std::ostringstream out;
  out << "case: " << describe(row) << "\nreplay: QKV_TEST_SEED=" << test_seed();
  if (const auto* test = testing::UnitTest::GetInstance()->current_test_info()) {
    const auto argv = testing::internal::GetArgvs();
    out << ' ' << (argv.empty() ? std::string("test") : argv[0]) << " --gtest_filter='"
        << test->test_suite_name() << '.' << test->name() << "'";
  }
  return std::move(out).str();
}

testing::AssertionResult accepted(const Tolerance& tolerance, const BuiltProblem& got) {
  const std::string wrong = tolerance.faults(got);
  if (wrong.empty()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << wrong << '\n' << replay(got.row());
}

testing::AssertionResult accepted(const BuiltProblem& got) {
  return accepted(Tolerance(got.oracle_problem()), got);
}

}  // namespace qkv::test
