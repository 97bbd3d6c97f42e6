// What a call costs the host when the launch itself costs nothing: a cached call at most 2 us, a
// cold plan at most 20 us. Figures are the best of many batches, so that a busy machine does not
// make them worse.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "host/core/plan_cache.h"
#include "host/core/verbose.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/full_problem.h"
#include "tests/support/slow_build.h"

namespace qkv::test {
namespace {

constexpr int kBatches = 200;

class HostCost : public testing::Test {
 protected:
  HostCost() : cuda({fake_device(90)}) {
    cuda.map_everything(0);
    cuda.record_launches = false;
    f.desc.device = QKV_DEVICE_AUTO;
    f.desc.causal = 1;
    f.desc.kv_lengths = f.kv_lengths;
    host::clear_plan_cache();
  }
  ~HostCost() override { host::clear_plan_cache(); }

  void SetUp() override {
    if (kSlowBuild) GTEST_SKIP() << "no figures from a debug or sanitizer build";
  }

  // Microseconds a call, the best batch and the median one.
  template <class Call>
  static double measure(const char* what, int calls, Call&& call) {
    std::vector<double> batches;
    for (int batch = 0; batch < kBatches; ++batch) {
      const auto start = std::chrono::steady_clock::now();
      for (int n = 0; n < calls; ++n) call();
      const std::chrono::duration<double, std::micro> took =
          std::chrono::steady_clock::now() - start;
      batches.push_back(took.count() / calls);
    }
    std::sort(batches.begin(), batches.end());
    std::printf("%s: %.4f us (best of %d batches of %d calls; median %.3f us)\n", what, batches[0],
                kBatches, calls, batches[kBatches / 2]);
    return batches[0];
  }

  FakeCuda cuda;
  FullProblem f;
};

TEST_F(HostCost, CachedCall) {
  const double best = measure("cached call", 200, [&] {
    if (qkv_attention(&f.desc, nullptr) != QKV_SUCCESS) FAIL() << qkv_last_error();
  });
  EXPECT_LE(best, 2.0);
}

// Q, K, V and O as slots of one buffer: their ranges of addresses meet, and whether their elements
// do is found out in each call.
TEST_F(HostCost, CachedCallOnSlotsOfABuffer) {
  constexpr int64_t kB = 4, kH = 8, kS = 64, kD = 64;
  std::vector<float> buffer(static_cast<size_t>(kB * kS * 4 * kH * kD));
  float* slot = buffer.data();
  for (qkv_tensor* t : {&f.desc.q, &f.desc.k, &f.desc.v, &f.desc.o}) {
    *t = {slot, QKV_TYPE_F32, 0, {kB, kH, kS, kD}, {kS * 4 * kH * kD, kD, 4 * kH * kD, 1}};
    slot += kH * kD;
  }
  f.desc.lse = f.desc.kv_lengths = {};
  const double best = measure("cached call on slots", 200, [&] {
    if (qkv_attention(&f.desc, nullptr) != QKV_SUCCESS) FAIL() << qkv_last_error();
  });
  EXPECT_LE(best, 2.0);
}

TEST_F(HostCost, RunOfAPlan) {
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&f.desc, &plan), QKV_SUCCESS) << qkv_last_error();
  const double best = measure("run of a plan", 200, [&] {
    if (qkv_plan_run(plan, &f.desc, nullptr) != QKV_SUCCESS) FAIL() << qkv_last_error();
  });
  EXPECT_LE(best, 2.0);
  qkv_plan_destroy(plan);
}

// QKV_VERBOSE is asked three times a call.
TEST_F(HostCost, VerboseOff) {
  host::set_verbose_for_test("", nullptr);
  volatile bool on = false;  // so that the loop stays
  const double best =
      measure("verbose, off", 100000, [&] { on = on || host::verbose(host::kVerboseExec); });
  EXPECT_FALSE(on);
  EXPECT_LE(best, 0.020);
}

// As in decoding: one key more with every call. Validation, plan, cache and launch together.
TEST_F(HostCost, ColdPlan) {
  f.desc.k.stride[2] = f.desc.v.stride[2] = 0;
  const double best = measure("cold plan", 20, [&] {
    ++f.desc.k.shape[2];
    ++f.desc.v.shape[2];
    if (qkv_attention(&f.desc, nullptr) != QKV_SUCCESS) FAIL() << qkv_last_error();
  });
  EXPECT_LE(best, 20.0);
}

// The same where the plan weighs tiles, packing and splits.
TEST_F(HostCost, ColdPlanOfTensorCores) {
  for (qkv_tensor* t : {&f.desc.q, &f.desc.k, &f.desc.v, &f.desc.o}) {
    t->type = QKV_TYPE_F16;
    t->shape[3] = 64;
    for (size_t axis = 0; axis < 3; ++axis) t->stride[axis] = 64;
  }
  f.desc.o.stride[0] = f.desc.o.shape[1] * f.desc.o.shape[2] * 64;
  f.desc.o.stride[1] = f.desc.o.shape[2] * 64;
  f.desc.k.stride[2] = f.desc.v.stride[2] = 0;
  f.desc.k.shape[2] = f.desc.v.shape[2] = 20000;
  f.desc.flags |= QKV_FLAG_ALLOW_ALLOCATION;
  const double best = measure("cold plan of sm80_forward", 20, [&] {
    ++f.desc.k.shape[2];
    ++f.desc.v.shape[2];
    qkv_query_result result{};
    result.struct_size = sizeof result;
    if (qkv_query(&f.desc, &result) != QKV_SUCCESS) FAIL() << qkv_last_error();
    ASSERT_STREQ(result.kernel, "sm80_forward") << result.reasons;
  });
  EXPECT_LE(best, 20.0);
}

}  // namespace
}  // namespace qkv::test
