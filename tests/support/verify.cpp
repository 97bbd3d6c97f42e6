#include "tests/support/verify.h"

#include <dlfcn.h>

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

std::string missing_cublaslt() {
  const bool virtual_gpu = dlsym(RTLD_DEFAULT, "__cudaVgpuCalls") != nullptr;
  if (place().device() == QKV_DEVICE_CPU || virtual_gpu) return {};
  qkv_project_desc desc;
  if (qkv_project_desc_init(&desc, sizeof desc) != QKV_SUCCESS) return {};
  desc.device = place().device();
  desc.device_index = place().index();
  desc.x = desc.weight = desc.y = {nullptr, QKV_TYPE_F32, 0, {1, 1, 1, 1}, {1, 1, 1, 1}};
  qkv_plan* plan = nullptr;
  const qkv_status status = qkv_project_plan_create(&desc, &plan);
  qkv_plan_destroy(plan);
  const std::string says = status == QKV_SUCCESS ? "" : qkv_last_error();
  return says.find("cannot be opened") == std::string::npos ? "" : says;
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

testing::AssertionResult accepted(const BuiltProblem& got) { return accepted(Tolerance(got), got); }

}  // namespace qkv::test
