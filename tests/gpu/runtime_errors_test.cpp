// T16: errors that were there before, and errors of ours.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/gpu/runtime.h"
#include "tests/gpu/trap_kernel.h"

namespace qkv::test {
namespace {

using T16_Errors = Gpu;

// Whether this program and libqkv call the same CUDA runtime.
constexpr bool kSharedRuntime = QKV_TEST_SHARED_RUNTIME;

// CUDA's runtime keeps the last error of a thread. libqkv.so has a runtime of its own inside and
// does not see the program's; where both share one (libqkv.a, the virtual GPU) it would mistake the
// error for its own, and says so instead. Either way it leaves the error to the program.
TEST_F(T16_Errors, AnEarlierPlainErrorIsReportedOrUnseenAndLeft) {
  const Problem p(kKinds[0], 1);
  const qkv_attention_desc d = p.desc();
  ASSERT_EQ(cudaSetDevice(99), cudaErrorInvalidDevice);
  for (int call = 0; call < 2; ++call) {
    const qkv_status status = qkv_attention(&d, nullptr);
    if (kSharedRuntime) {
      EXPECT_EQ(status, QKV_DEVICE_ERROR_PRIOR);
      EXPECT_NE(std::string(qkv_last_error()).find("cudaErrorInvalidDevice"), std::string::npos)
          << qkv_last_error();
    } else {
      EXPECT_EQ(status, QKV_SUCCESS) << qkv_last_error();
    }
    EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice);
  }
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), p.result(nullptr)), kCloseEnough);
}

TEST_F(T16_Errors, OursLeaveNothingBehind) {
  const Problem p(kKinds[0], 1);
  const auto refuse = [&](auto&& spoil) {
    qkv_attention_desc d = p.desc();
    spoil(d);
    EXPECT_NE(qkv_attention(&d, nullptr), QKV_SUCCESS);
    EXPECT_STRNE(qkv_last_error(), "");
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << qkv_last_error();
    d = p.desc();
    EXPECT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  };
  refuse([](qkv_attention_desc& d) { d.q.type = QKV_TYPE_BOOL; });
  refuse([](qkv_attention_desc& d) { d.device = QKV_DEVICE_CUDA, d.device_index = 99; });
  refuse([](qkv_attention_desc& d) { d.fixed_split_size = -1; });
  std::vector<float> host(1 << 16);
  refuse([&](qkv_attention_desc& d) { d.k.data = host.data(); });
  EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), p.result(nullptr)), kCloseEnough);
}

// The device has faulted: every call says so, as an earlier error and in CUDA's words, and the CPU
// backend works on. Each such test needs a process of its own.
TEST_F(T16_Errors, AnEarlierFaultIsReportedForGood) {
  const Problem p(kKinds[0], 1);
  const qkv_attention_desc d = p.desc();
  ASSERT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  const auto bits = p.result(nullptr);
  launch_trap(nullptr);
  const cudaError_t fault = cudaDeviceSynchronize();
  ASSERT_NE(fault, cudaSuccess);
  (void)cudaGetLastError();  // does not clear it
  qkv_plan* plan = nullptr;
  for (int call = 0; call < 2; ++call) {
    EXPECT_EQ(qkv_attention(&d, nullptr), QKV_DEVICE_ERROR_PRIOR) << qkv_last_error();
    EXPECT_NE(std::string(qkv_last_error()).find(cudaGetErrorName(fault)), std::string::npos)
        << qkv_last_error();
    EXPECT_NE(qkv_plan_create(&d, &plan), QKV_INTERNAL);
    qkv_plan_destroy(plan);
    plan = nullptr;
  }
  EXPECT_EQ(cudaDeviceSynchronize(), fault);
  EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), bits), kCloseEnough);
}

// In a process that never called qkv before the fault: nothing of the failing queries is believed.
TEST_F(T16_Errors, AFaultBeforeTheFirstCallIsReported) {
  const Problem p(kKinds[0], 1);
  const qkv_attention_desc d = p.desc();
  launch_trap(nullptr);
  const cudaError_t fault = cudaDeviceSynchronize();
  ASSERT_NE(fault, cudaSuccess);
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_DEVICE_ERROR_PRIOR) << qkv_last_error();
  EXPECT_NE(std::string(qkv_last_error()).find(cudaGetErrorName(fault)), std::string::npos)
      << qkv_last_error();
}

// A fault that is still under way when qkv is called is not qkv's: the call may succeed, and after
// the next synchronisation it is an earlier error.
TEST_F(T16_Errors, AFaultUnderWayIsNotOurs) {
  const Problem p(kKinds[0], 1);
  const qkv_attention_desc d = p.desc();
  launch_trap(nullptr);
  const qkv_status status = qkv_attention(&d, nullptr);
  EXPECT_TRUE(status == QKV_SUCCESS || qkv_status_class(status) == QKV_DEVICE_ERROR)
      << qkv_status_name(status) << ": " << qkv_last_error();
  ASSERT_NE(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_DEVICE_ERROR_PRIOR) << qkv_last_error();
}

}  // namespace
}  // namespace qkv::test
