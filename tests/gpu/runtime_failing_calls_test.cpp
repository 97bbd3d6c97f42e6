// T17: any one runtime call fails.
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "tests/gpu/runtime.h"

namespace qkv::test {
namespace {

// One step of a program that uses qkv: what it returns, QKV_SUCCESS if all is well.
struct Step {
  const char* name;
  std::function<qkv_status()> run;
  bool has_message = true;
};

// In a child process, where the library has not been called yet: the n-th runtime call that qkv
// makes fails: with `error`, or with what is likeliest of it (cudaSuccess). Returns 0: all held; 1:
// something did not; 2: there is no n-th call; 3: all held, and the step succeeded all the same.
int with_failing_call(unsigned long long n, int device, cudaError_t error, const Kind& kind) {
  probe<FailWith>("__cudaVgpuFailWith")(error);
  // A kernel of which CUDA says this may be passed over: then another one has computed.
  const bool passes_over = error == cudaErrorNoKernelImageForDevice;
  const auto fail_call = probe<FailCall>("__cudaVgpuFailCall");
  int wrong = 0;
  const auto expect = [&](bool holds, const char* step, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "call %llu fails, %s: %s; last error: %s\n", n, step, what,
                 qkv_last_error());
    ++wrong;
  };
  CUDA(cudaSetDevice(device));
  const Problem p(kind, 5);
  CUDA(cudaSetDevice(0));
  const auto free_bytes = [&] {
    size_t free = 0, total = 0;
    CUDA(cudaSetDevice(device));
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemGetInfo(&free, &total));
    CUDA(cudaSetDevice(0));
    return free;
  };
  const size_t before = free_bytes();
  const qkv_attention_desc d = p.desc();
  qkv_plan* plan = nullptr;
  std::vector<std::vector<std::byte>> results;
  const auto facts = [&] {
    qkv_device_facts f{};
    f.struct_size = sizeof f;
    return qkv_device_query(device, &f);
  };
  // A query answers what is the matter instead of failing.
  const auto query = [&]() -> qkv_status {
    qkv_query_result r{};
    r.struct_size = sizeof r;
    const qkv_status status = qkv_query(&d, &r);
    if (status != QKV_SUCCESS || r.supported != 0) return status;
    return std::string(r.reasons).find("cuda") != std::string::npos ? QKV_DEVICE_ERROR
                                                                    : QKV_INTERNAL;
  };
  const Step steps[] = {
      {"qkv_device_count", [] { return qkv_device_count() > 0 ? 0 : QKV_DEVICE_ERROR; }, false},
      {"qkv_device_query", facts},
      {"qkv_query", query, false},
      {"qkv_plan_create", [&] { return qkv_plan_create(&d, &plan); }},
      {"qkv_plan_run", [&] { return qkv_plan_run(plan, &d, nullptr); }},
      {"qkv_attention", [&] { return qkv_attention(&d, nullptr); }},
      {"qkv_attention again", [&] { return qkv_attention(&d, nullptr); }},
  };
  unsigned long long left = n;
  bool happened = false, passed_over = false;
  for (const Step& step : steps) {
    const bool computes = std::string(step.name).find("run") != std::string::npos ||
                          std::string(step.name).find("attention") != std::string::npos;
    const auto calls = probe<CallsOf>("__cudaVgpuCalls");
    const unsigned long long first = calls(nullptr);
    (void)fail_call(happened ? 0 : left);
    qkv_status status = step.run();
    const unsigned long long made = calls(nullptr) - first;
    const bool failed = fail_call(0) != 0;
    if (failed) {
      happened = true;
      passed_over = passes_over && status == QKV_SUCCESS;
      expect(passed_over || status != QKV_SUCCESS, step.name, "the failure is not reported");
      expect(passed_over || !step.has_message || *qkv_last_error() != '\0', step.name,
             "no message");
      expect(passed_over || qkv_status_class(status) == QKV_DEVICE_ERROR ||
                 qkv_status_class(status) == QKV_RESOURCE,
             step.name, qkv_status_name(status));
      if (!passed_over) status = step.run();  // the same once more
    } else {
      left -= std::min(left, made);
    }
    expect(status == QKV_SUCCESS, step.name,
           failed ? "does not work after the failure" : "fails without a failure");
    expect(cudaGetLastError() == cudaSuccess, step.name, "an error is left behind");
    int current = -1;
    CUDA(cudaGetDevice(&current));
    expect(current == 0, step.name, "the current device has changed");
    if (!computes) continue;
    CUDA(cudaSetDevice(device));
    results.push_back(p.result(nullptr));
    p.upload(p.inputs(), nullptr);  // poisons the outputs
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaSetDevice(0));
    expect(passes_over ? distance_to_cpu(p.kind(), p.inputs(), results.back()) < kCloseEnough
                       : results.back() == results.front(),
           step.name, "other bits");
  }
  qkv_plan_destroy(plan);
  expect(distance_to_cpu(p.kind(), p.inputs(), results.front()) < kCloseEnough, "all",
         "not the CPU's result");
  expect(free_bytes() == before, "all", "device memory leaks");
  return wrong != 0 ? 1 : passed_over ? 3 : happened ? 0 : 2;
}

// Forks before anything calls CUDA: every child starts afresh. Counts the failures that a step has
// got over.
void fail_every_call(cudaError_t error, int* passed_over,
                     const Kind& kind = {QKV_TYPE_F16, 2, 1, 2, 9, 16, true, true},
                     int devices = 2) {
  for (int device = 0; device < devices; ++device) {
    unsigned long long n = 1;
    for (bool more = true; more; ++n) {
      ASSERT_LT(n, 1000u);
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        int result = 1;
        try {
          result = with_failing_call(n, device, error, kind);
        } catch (const std::exception& e) {
          std::fprintf(stderr, "call %llu fails: %s\n", n, e.what());
        }
        std::fflush(stderr);
        _exit(result);
      }
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFEXITED(status)) << "call " << n << ": signal " << WTERMSIG(status);
      EXPECT_NE(WEXITSTATUS(status), 1) << "call " << n << ", device " << device;
      more = WEXITSTATUS(status) != 2;
      if (WEXITSTATUS(status) == 3) ++*passed_over;
    }
    EXPECT_GT(n, 10u) << "qkv makes more runtime calls than this";
    testing::Test::RecordProperty(device == 0 ? "calls_on_device_0" : "calls_on_device_1",
                                  static_cast<int>(n - 2));
  }
}

TEST(T17_FailingCalls, EveryOneIsAStatusAndTheNextCallWorks) {
  if (!on_virtual_gpu()) GTEST_SKIP() << "needs the virtual GPU; runs there (vgpu_T17_*)";
  int passed_over = 0;
  fail_every_call(cudaSuccess, &passed_over);
  EXPECT_EQ(passed_over, 0);
}

// On Hopper the driver is asked for functions once, and again after it has failed to give them.
TEST(T17_FailingCalls, EveryOneOfHoppersKernelToo) {
  if (!on_virtual_gpu()) GTEST_SKIP() << "needs the virtual GPU; runs there (vgpu_T17_*)";
  int passed_over = 0;
  fail_every_call(cudaSuccess, &passed_over, {QKV_TYPE_F16, 1, 1, 1, 65, 128, false, true}, 1);
  EXPECT_EQ(passed_over, 0);
}

// Where CUDA says that a kernel is not for this device: a status, or another kernel's result.
TEST(T17_FailingCalls, AKernelThatDoesNotLoadIsPassedOver) {
  if (!on_virtual_gpu()) GTEST_SKIP() << "needs the virtual GPU; runs there (vgpu_T17_*)";
  int passed_over = 0;
  fail_every_call(cudaErrorNoKernelImageForDevice, &passed_over);
  EXPECT_GE(passed_over, 2 * 2) << "when the plan is made, and in the first call; on two devices";
}

}  // namespace
}  // namespace qkv::test
