// From plan to launch under devices that are not there: the cache, the current device, errors that
// were there before, workspaces, streams.
#include "host/core/run.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "host/core/disable.h"
#include "host/core/plan_cache.h"
#include "host/ops/attention/op.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/full_problem.h"

namespace qkv::test {
namespace {

using host::Memory;
using host::SharedPlan;
using host::Status;

// --- the cache

host::attention::Problem with_keys(int64_t s_kv) {
  host::attention::Problem problem;
  SmallProblem p({.s_q = 1, .s_kv = 1});
  p.desc.k.shape[2] = p.desc.v.shape[2] = s_kv;
  EXPECT_TRUE(
      host::attention::validate(&p.desc, host::Need::kShapes, host::cuda_runtime(), &problem).ok());
  return problem;
}

SharedPlan cached(int64_t s_kv) {
  SharedPlan plan;
  const Status status =
      host::cached_plan(host::attention::kOp, with_keys(s_kv), host::cuda_runtime(), &plan);
  EXPECT_TRUE(status.ok()) << status.reason();
  return plan;
}

// In a thread of its own, whose front is empty: what the shared cache holds.
SharedPlan cached_elsewhere(int64_t s_kv) {
  SharedPlan plan;
  std::thread([&] { plan = cached(s_kv); }).join();
  return plan;
}

class Cache : public testing::Test {
 protected:
  void SetUp() override { host::clear_plan_cache(); }
  void TearDown() override { host::clear_plan_cache(); }
};

TEST_F(Cache, SharesPlansBetweenCallsAndThreads) {
  const SharedPlan first = cached(7);
  EXPECT_EQ(cached(7), first);
  EXPECT_EQ(cached_elsewhere(7), first);
  EXPECT_NE(cached(8), first);
}

TEST_F(Cache, ForgetsWhenTold) {
  const SharedPlan first = cached(7);
  host::clear_plan_cache();
  EXPECT_NE(cached(7), first);
}

TEST_F(Cache, IsBounded) {
  constexpr int64_t kPlans = 3 * static_cast<int64_t>(host::kPlanCacheCapacity);
  std::vector<std::weak_ptr<const qkv_plan>> made;
  for (int64_t n = 1; n <= kPlans; ++n) made.push_back(cached(n));
  size_t alive = 0;
  for (const auto& plan : made) alive += plan.expired() ? 0 : 1;
  EXPECT_GE(alive, host::kPlanCacheCapacity);
  EXPECT_LE(alive, host::kPlanCacheCapacity + 8) << "8: this thread's front";
  EXPECT_TRUE(made.front().expired());
  EXPECT_FALSE(made.back().expired());
}

TEST_F(Cache, DropsTheLeastRecentlyUsed) {
  constexpr auto kCapacity = static_cast<int64_t>(host::kPlanCacheCapacity);
  const std::weak_ptr<const qkv_plan> first = cached_elsewhere(1), second = cached_elsewhere(2);
  for (int64_t n = 3; n <= kCapacity; ++n) cached_elsewhere(n);
  EXPECT_FALSE(cached_elsewhere(1) == nullptr);  // used again: now the second is the oldest
  cached_elsewhere(kCapacity + 1);
  EXPECT_FALSE(first.expired());
  EXPECT_TRUE(second.expired());
}

TEST_F(Cache, DoesNotKeepWhatFails) {
  FakeCuda cuda({fake_device(90)});
  cuda.map_everything(0);
  FullProblem f;
  f.desc.device = QKV_DEVICE_CUDA;
  cuda.devices[0].compute = 70;
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_UNSUPPORTED_KERNEL);
  cuda.devices[0].compute = 90;
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
}

// --- kernels that are passed over

// A problem that sm90_forward, sm80_forward, simt_forward and simt_general run, in this order.
struct HopperProblem {
  HopperProblem() {
    EXPECT_EQ(qkv_attention_desc_init(&desc, sizeof desc), QKV_SUCCESS);
    desc.device = QKV_DEVICE_CUDA;
    desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
    for (qkv_tensor* tensor : {&desc.q, &desc.k, &desc.v, &desc.o})
      *tensor = {memory.data(), QKV_TYPE_F16, 0, {1, 1, kRows, kDim}, {0, 0, kDim, 1}};
    desc.o.data = o.data();
  }

  static constexpr int64_t kRows = 3, kDim = 128;
  std::vector<uint16_t> memory = std::vector<uint16_t>(kRows * kDim + 8), o = memory;
  qkv_attention_desc desc;
};

class PassedOver : public testing::Test {
 protected:
  PassedOver() : cuda({fake_device(90)}) {
    host::clear_plan_cache();
    cuda.map_everything(0);
  }
  ~PassedOver() override {
    host::set_disabled_for_test("");
    host::clear_plan_cache();
  }

  // The kernel that a call ran; "" if it failed.
  std::string runs() {
    const size_t before = cuda.launches().size();
    if (qkv_attention(&f.desc, nullptr) != QKV_SUCCESS) return "";
    EXPECT_EQ(cuda.launches().size(), before + 1);
    return cuda.launches().back().kernel;
  }
  qkv_query_result query() {
    qkv_query_result result{};
    result.struct_size = sizeof result;
    EXPECT_EQ(qkv_query(&f.desc, &result), QKV_SUCCESS) << qkv_last_error();
    return result;
  }
  std::string printed_plan() {
    qkv_plan* plan = nullptr;
    EXPECT_EQ(qkv_plan_create(&f.desc, &plan), QKV_SUCCESS) << qkv_last_error();
    std::string text(4096, '\0');
    size_t length = 0;
    EXPECT_EQ(qkv_plan_print(plan, text.data(), text.size(), &length), QKV_SUCCESS);
    qkv_plan_destroy(plan);
    text.resize(length);
    return text;
  }
  // As a table of CUDA answers where the kernel is the matter.
  static Status cannot_run(const char* words) { return {QKV_UNSUPPORTED_KERNEL, words}; }

  FakeCuda cuda;
  HopperProblem f;
};

TEST_F(PassedOver, AKernelThatCannotBeLoaded) {
  ASSERT_STREQ(query().kernel, "sm90_forward");
  cuda.load_results = {cannot_run("loading: no image for this device")};
  EXPECT_EQ(runs(), "sm80_forward") << qkv_last_error();
  const size_t loads = cuda.prepared_on.size();
  EXPECT_GE(loads, 2u);
  EXPECT_EQ(runs(), "sm80_forward");
  EXPECT_EQ(cuda.prepared_on.size(), loads) << "the plan is cached: nothing is tried again";
  // Who asks is told the kernel that runs, and the workspace that it needs.
  const qkv_query_result answer = query();
  EXPECT_STREQ(answer.kernel, "sm80_forward");
  EXPECT_EQ(std::string(answer.reasons), "sm90_forward: loading: no image for this device\n");
}

TEST_F(PassedOver, ThePlanSaysWhy) {
  cuda.load_results = {cannot_run("loading: no image"), cannot_run("loading: no image either")};
  const std::string plan = printed_plan();
  EXPECT_EQ(plan.rfind("kernel      simt_forward\n", 0), 0) << plan;
  EXPECT_NE(plan.find("\ndeclined\n  sm90_forward: loading: no image\n"
                      "  sm80_forward: loading: no image either\n"),
            std::string::npos)
      << plan;
}

TEST_F(PassedOver, TheCurrentDeviceIsRestored) {
  cuda.devices.push_back(fake_device(80));
  FakeCuda::current_device() = 1;
  cuda.load_results = {cannot_run("no image")};
  EXPECT_EQ(runs(), "sm80_forward") << qkv_last_error();
  for (const int32_t device : cuda.prepared_on) EXPECT_EQ(device, 0);
  EXPECT_EQ(FakeCuda::current_device(), 1);
  FakeCuda::current_device() = 0;
}

TEST_F(PassedOver, WhenNoneIsLeftTheCallFails) {
  cuda.load_results.assign(4, cannot_run("no image"));
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_DEVICE_ERROR_CALL);
  const std::string message = qkv_last_error();
  for (const char* kernel : {"sm90_forward", "sm80_forward", "simt_forward", "simt_general"})
    EXPECT_NE(message.find(std::string(kernel) + ": no image"), std::string::npos) << message;
  EXPECT_TRUE(cuda.launches().empty());
  EXPECT_EQ(runs(), "sm90_forward") << "a failure is not cached";
}

// What does not say that the kernel is the matter fails the call, and the next call tries again.
TEST_F(PassedOver, NotForWantOfMemoryNorForABrokenDevice) {
  const Status failures[] = {{QKV_RESOURCE_OUT_OF_MEMORY, "loading: out of memory"},
                             {QKV_DEVICE_ERROR_PRIOR, "an earlier CUDA call left a fault"},
                             {QKV_DEVICE_ERROR_CALL, "loading: unknown error"}};
  for (const Status& failure : failures) {
    host::clear_plan_cache();
    cuda.load_results = {failure};
    EXPECT_EQ(qkv_attention(&f.desc, nullptr), failure.code());
    EXPECT_EQ(qkv_last_error(), failure.reason());
    EXPECT_EQ(runs(), "sm90_forward") << qkv_last_error();
  }
  // Nor does a kernel behind it run where the second one meets such a failure.
  host::clear_plan_cache();
  cuda.load_results = {cannot_run("no image"), failures[0]};
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_RESOURCE_OUT_OF_MEMORY);
}

TEST_F(PassedOver, ADisabledKernel) {
  EXPECT_EQ(runs(), "sm90_forward");
  host::set_disabled_for_test(" sm90_forward , simt_general");
  EXPECT_EQ(runs(), "sm80_forward") << "the cached plan is another list's";
  EXPECT_EQ(std::string(query().reasons), "sm90_forward: disabled by QKV_DISABLE\n");
  EXPECT_NE(printed_plan().find("  sm90_forward: disabled by QKV_DISABLE\n"), std::string::npos);
  host::set_disabled_for_test("");
  EXPECT_EQ(runs(), "sm90_forward");
}

TEST_F(PassedOver, AllDisabledIsUnsupported) {
  host::set_disabled_for_test("sm90_forward,sm80_forward,sm80_tf32x3,simt_forward,simt_general");
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_UNSUPPORTED_KERNEL);
  EXPECT_NE(std::string(qkv_last_error()).find("simt_general: disabled by QKV_DISABLE"),
            std::string::npos)
      << qkv_last_error();
  EXPECT_TRUE(cuda.prepared_on.empty());
}

TEST_F(PassedOver, AnUnknownNameIsNoted) {
  host::set_disabled_for_test("sm90_foward,,sm80_forward");
  EXPECT_EQ(runs(), "sm90_forward") << qkv_last_error();
  EXPECT_EQ(std::string(query().reasons),
            "sm90_foward: QKV_DISABLE names it, but there is no such kernel\n");
  EXPECT_EQ(host::disabled().kernels, std::vector<std::string>{"sm80_forward"});
  EXPECT_EQ(host::disabled().unknown, std::vector<std::string>{"sm90_foward"});
}

// Kernels of the CPU and of other operations have names too.
TEST_F(PassedOver, OnTheCpu) {
  host::set_disabled_for_test("cpu_forward,merge");
  EXPECT_TRUE(host::disabled().unknown.empty());
  FullProblem on_cpu;
  cuda.devices.clear();
  EXPECT_EQ(qkv_attention(&on_cpu.desc, nullptr), QKV_UNSUPPORTED_KERNEL);
  EXPECT_NE(std::string(qkv_last_error()).find("cpu_forward: disabled by QKV_DISABLE"),
            std::string::npos)
      << qkv_last_error();
}

// --- devices

class FourDevices : public testing::Test {
 protected:
  FourDevices() : cuda({fake_device(80), fake_device(90), fake_device(75), fake_device(120)}) {
    host::clear_plan_cache();
    f.desc.device = QKV_DEVICE_AUTO;
  }
  ~FourDevices() override { host::clear_plan_cache(); }

  FakeCuda cuda;
  FullProblem f;
};

TEST_F(FourDevices, TheTensorsDeviceIsSetAndTheCallersRestored) {
  for (int32_t current = 0; current < 4; ++current) {
    for (int32_t device = 0; device < 4; ++device) {
      FakeCuda::current_device() = current;
      cuda.map_everything(device);
      const size_t before = cuda.launches().size();
      ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
      ASSERT_EQ(cuda.launches().size(), before + 1);
      EXPECT_EQ(cuda.launches().back().device, device);
      EXPECT_EQ(FakeCuda::current_device(), current);
    }
  }
  EXPECT_EQ(cuda.prepared_on, (std::vector<int32_t>{0, 1, 2, 3})) << "kernels are loaded there too";
  FakeCuda::current_device() = 0;
}

TEST_F(FourDevices, NothingIsSwitchedOnTheCurrentDevice) {
  cuda.map_everything(2);
  FakeCuda::current_device() = 2;
  ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(cuda.device_switches, 0);
  FakeCuda::current_device() = 0;
}

TEST_F(FourDevices, RestoredAfterAFailedLaunch) {
  cuda.map_everything(3);
  FakeCuda::current_device() = 1;
  cuda.launch_code = 719;
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_DEVICE_ERROR_CALL);
  EXPECT_EQ(FakeCuda::current_device(), 1);
  // The next call is not affected.
  cuda.launch_code = 0;
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  FakeCuda::current_device() = 0;
}

TEST_F(FourDevices, AnEarlierErrorIsReportedAndLeft) {
  cuda.map_everything(0);
  cuda.pending = Status(QKV_DEVICE_ERROR_PRIOR, "an earlier CUDA call left cudaErrorUnknown");
  for (int call = 0; call < 2; ++call) {  // not cleared by the first
    EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_DEVICE_ERROR_PRIOR);
    EXPECT_STREQ(qkv_last_error(), "an earlier CUDA call left cudaErrorUnknown");
  }
  EXPECT_TRUE(cuda.launches().empty());
  cuda.pending = {};
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
}

// What CUDA does not answer is not taken for host memory.
TEST_F(FourDevices, AFailedQueryIsReported) {
  cuda.map_everything(1);
  const Status failure(QKV_DEVICE_ERROR_CALL, "the query failed");
  for (Status* query : {&cuda.count_status, &cuda.pointer_status}) {
    *query = failure;
    for (const qkv_device device : {QKV_DEVICE_AUTO, QKV_DEVICE_CUDA}) {
      f.desc.device = device;
      f.desc.device_index = 1;
      EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_DEVICE_ERROR_CALL);
      EXPECT_STREQ(qkv_last_error(), "the query failed");
    }
    *query = {};
    EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  }
  EXPECT_EQ(cuda.launches().size(), 2u);
  // The CPU needs no answer.
  cuda.count_status = cuda.pointer_status = failure;
  f.desc.device = QKV_DEVICE_CPU;
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
}

TEST_F(FourDevices, AFailedReturnToTheCallersDeviceIsReported) {
  cuda.map_everything(3);
  FakeCuda::current_device() = 1;
  ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  cuda.fail_return_to = 1;
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_DEVICE_ERROR_CALL);
  EXPECT_EQ(FakeCuda::current_device(), 1) << "the second try has worked";
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  FakeCuda::current_device() = 0;
}

TEST_F(FourDevices, PinnedAndManagedMemoryServeTheNamedDevice) {
  for (Memory memory : {Memory::kPinned, Memory::kManaged}) {
    for (const auto* data : {&f.q, &f.k, &f.v, &f.o, &f.lse}) {
      cuda.map(data->data(), data->size() * sizeof(float), memory, 0);
    }
    f.desc.device = QKV_DEVICE_CPU;
    EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    const size_t before = cuda.launches().size();
    f.desc.device = QKV_DEVICE_CUDA;
    f.desc.device_index = 1;
    EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(cuda.launches().size(), before + 1);
  }
}

TEST_F(FourDevices, TheStreamArrives) {
  cuda.map_everything(1);
  void* stream = reinterpret_cast<void*>(uintptr_t{0x1234});
  ASSERT_EQ(qkv_attention(&f.desc, stream), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(cuda.launches().back().stream, stream);
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&f.desc, &plan), QKV_SUCCESS) << qkv_last_error();
  ASSERT_EQ(qkv_plan_run(plan, &f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(cuda.launches().back().stream, nullptr);
  qkv_plan_destroy(plan);
}

TEST_F(FourDevices, PlansDifferByDevice) {
  std::set<SharedPlan> plans;
  for (int32_t device = 0; device < 4; ++device) {
    cuda.map_everything(device);
    host::attention::Problem problem;
    ASSERT_TRUE(
        host::attention::validate(&f.desc, host::Need::kAddresses, host::cuda_runtime(), &problem)
            .ok());
    SharedPlan plan;
    ASSERT_TRUE(host::cached_plan(host::attention::kOp, problem, host::cuda_runtime(), &plan).ok());
    EXPECT_EQ(plan->device.name, cuda.devices[static_cast<size_t>(device)].name);
    plans.insert(plan);
  }
  EXPECT_EQ(plans.size(), 4u);
}

// A driver that is too old for this build: the CPU computes what is in host memory, and whoever
// asks for a device is told.
TEST_F(FourDevices, AnOldDriverIsNamed) {
  cuda.devices.clear();
  cuda.no_device = "the driver is old";
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(qkv_device_count(), 0);
  qkv_device_facts facts{};
  facts.struct_size = sizeof facts;
  EXPECT_EQ(qkv_device_query(0, &facts), QKV_DEVICE_ERROR_NONE);
  EXPECT_STREQ(qkv_last_error(),
               "index is 0, but this process has no CUDA device: the driver is old");
}

TEST_F(FourDevices, NothingIsLaunchedForAnEmptyProblem) {
  cuda.map_everything(0);
  SmallProblem empty({.batch = 0});
  empty.desc.device = QKV_DEVICE_CUDA;
  EXPECT_EQ(qkv_attention(&empty.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_TRUE(cuda.launches().empty());
}

// TMA describes no tensors without elements: a plan for them loads nothing, and runs.
TEST_F(FourDevices, APlanOfAnEmptyProblemLoadsNothing) {
  cuda.map_everything(1);
  std::vector<uint16_t> k(2 * 72);
  qkv_attention_desc desc;
  ASSERT_EQ(qkv_attention_desc_init(&desc, sizeof desc), QKV_SUCCESS);
  desc.device = QKV_DEVICE_CUDA;
  desc.device_index = 1;
  desc.q = desc.o = {nullptr, QKV_TYPE_F16, 0, {1, 1, 0, 72}, {0, 0, 0, 0}};
  desc.k = desc.v = {k.data(), QKV_TYPE_F16, 0, {1, 1, 2, 72}, {0, 0, 72, 1}};
  qkv_query_result result{};
  result.struct_size = sizeof result;
  ASSERT_EQ(qkv_query(&desc, &result), QKV_SUCCESS);
  EXPECT_STREQ(result.kernel, "sm90_forward");
  cuda.prepare_code = 1;
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&desc, &plan), QKV_SUCCESS) << qkv_last_error();
  EXPECT_TRUE(cuda.prepared_on.empty());
  EXPECT_EQ(qkv_plan_run(plan, &desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_TRUE(cuda.launches().empty());
  qkv_plan_destroy(plan);
}

TEST_F(FourDevices, AskingLaunchesNothing) {
  cuda.map_everything(2);
  qkv_query_result result{};
  result.struct_size = sizeof result;
  ASSERT_EQ(qkv_query(&f.desc, &result), QKV_SUCCESS);
  EXPECT_STREQ(result.kernel, "simt_forward");
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&f.desc, &plan), QKV_SUCCESS) << qkv_last_error();
  qkv_plan_destroy(plan);
  EXPECT_TRUE(cuda.launches().empty());
  EXPECT_EQ(cuda.allocations, 0);
}

TEST_F(FourDevices, FactsAreTheDevices) {
  EXPECT_EQ(qkv_device_count(), 4);
  qkv_device_facts facts{};
  facts.struct_size = sizeof facts;
  ASSERT_EQ(qkv_device_query(3, &facts), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(facts.compute_major, 12);
  EXPECT_EQ(facts.compute_minor, 0);
  EXPECT_EQ(facts.sm_count, cuda.devices[3].sm_count);
  EXPECT_EQ(facts.smem_per_block, cuda.devices[3].smem_per_block);
  EXPECT_EQ(facts.memory_bytes, cuda.devices[3].memory_bytes);
  EXPECT_EQ(facts.l2_bytes, cuda.devices[3].l2_bytes);
  EXPECT_EQ(facts.name, cuda.devices[3].name);
}

// --- workspace, on a kernel that wants one

class Workspace : public testing::Test {
 protected:
  static constexpr size_t kBytes = 1000;

  Workspace() : cuda({fake_device(90)}) {
    plan.kernel = &kernel;
    plan.own = std::make_unique<host::KernelPlan>();
    plan.own->workspace_bytes = kBytes;
    problem.device = QKV_DEVICE_CUDA;
    problem.batch = problem.s_q = 1;
    cuda.map(memory, kBytes, Memory::kDevice, 0);
  }

  Status run() {
    return host::run_plan(host::attention::kOp, plan, problem, host::cuda_runtime(), nullptr);
  }

  FakeCuda cuda;
  host::Kernel kernel{
      "wants_workspace",
      QKV_DEVICE_CUDA,
      nullptr,
      nullptr,
      nullptr,
      [](const host::AnyProblem&, const host::KernelPlan&, const host::CudaRuntime& on,
         const host::Run& run) { return on.queue(run, [] { return 0; }); }};
  host::Plan plan;
  host::attention::Problem problem;
  alignas(256) std::byte memory[kBytes];
};

TEST_F(Workspace, OfTheCallerIsUsed) {
  problem.workspace = memory;
  problem.workspace_size = kBytes;
  problem.allow_allocation = true;
  ASSERT_TRUE(run().ok());
  EXPECT_EQ(cuda.launches().at(0).workspace, memory);
  EXPECT_EQ(cuda.allocations, 0);
}

TEST_F(Workspace, TooSmallIsRefusedEvenIfAllocationIsAllowed) {
  problem.workspace = memory;
  problem.workspace_size = kBytes - 1;
  problem.allow_allocation = true;
  EXPECT_EQ(run().code(), QKV_RESOURCE_WORKSPACE);
  EXPECT_TRUE(cuda.launches().empty());
}

// A kernel would meet an illegal address, and the program lose its context.
TEST_F(Workspace, OfAnotherDeviceIsRefused) {
  problem.workspace = memory;
  problem.workspace_size = kBytes;
  cuda.devices.push_back(fake_device(90));
  problem.device_index = 1;
  EXPECT_EQ(run().code(), QKV_INVALID_DEVICE);
  EXPECT_EQ(run().reason(), "workspace is in memory of cuda:0; device is cuda:1");
  problem.device_index = 0;
  alignas(256) std::byte on_host[kBytes];
  problem.workspace = on_host;
  EXPECT_EQ(run().code(), QKV_INVALID_DEVICE);
  EXPECT_EQ(run().reason(), "workspace is in host memory; device cuda:0 needs device memory");
  EXPECT_TRUE(cuda.launches().empty());
  for (const Memory usable : {Memory::kPinned, Memory::kManaged}) {
    cuda.map(on_host, kBytes, usable, 0);
    EXPECT_TRUE(run().ok());
  }
  problem.device = QKV_DEVICE_CPU;
  problem.workspace = memory;
  EXPECT_EQ(run().reason(), "workspace is in memory of cuda:0; device cpu needs host memory");
  plan.own->workspace_bytes = 0;
  EXPECT_TRUE(run().ok()) << "what is not used is not asked for";
}

TEST_F(Workspace, T27_ThatSharesMemoryWithATensorIsRefused) {
  problem.workspace = memory;
  problem.workspace_size = kBytes;
  problem.k = {memory + kBytes - 4, QKV_TYPE_F32, {1, 1, 3, 1}, {0, 0, 1, 0}};
  EXPECT_EQ(run().code(), QKV_INVALID_OVERLAP);
  EXPECT_EQ(run().reason(), "workspace, of which this plan needs 1000 bytes, shares memory with k");
  problem.k.data = memory + kBytes;
  EXPECT_TRUE(run().ok());
}

TEST_F(Workspace, MissingIsRefused) {
  const Status status = run();
  EXPECT_EQ(status.code(), QKV_RESOURCE_WORKSPACE);
  EXPECT_NE(status.reason().find("1000 bytes"), std::string::npos) << status.reason();
  EXPECT_TRUE(cuda.launches().empty());
}

TEST_F(Workspace, IsAllocatedOnRequestAndReleased) {
  problem.allow_allocation = true;
  ASSERT_TRUE(run().ok());
  EXPECT_NE(cuda.launches().at(0).workspace, nullptr);
  EXPECT_EQ(cuda.allocations, 1);
  EXPECT_EQ(cuda.releases, 1);
}

TEST_F(Workspace, FailedAllocationIsReported) {
  problem.allow_allocation = true;
  cuda.allocate_status = Status(QKV_RESOURCE_OUT_OF_MEMORY, "cudaMallocAsync: no");
  EXPECT_EQ(run().code(), QKV_RESOURCE_OUT_OF_MEMORY);
  EXPECT_TRUE(cuda.launches().empty());
  cuda.allocate_status = {};
  EXPECT_TRUE(run().ok()) << "the next call works";
}

TEST_F(Workspace, IsReleasedAfterAFailedLaunch) {
  problem.allow_allocation = true;
  cuda.launch_code = 1;
  EXPECT_EQ(run().code(), QKV_DEVICE_ERROR_CALL);
  EXPECT_EQ(cuda.releases, 1);
}

TEST_F(Workspace, AFailedReleaseIsReported) {
  problem.allow_allocation = true;
  cuda.release_status = Status(QKV_DEVICE_ERROR_CALL, "cudaFreeAsync: no");
  EXPECT_EQ(run().code(), QKV_DEVICE_ERROR_CALL);
}

}  // namespace
}  // namespace qkv::test
