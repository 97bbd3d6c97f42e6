// Refusals of host/api.cpp and host/core/run.cpp, and of what only a run can know.
#include <gtest/gtest.h>

#include <memory>

#include "host/core/plan_cache.h"
#include "host/core/run.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/full_problem.h"
#include "tests/support/plans.h"
#include "tests/support/refusals.h"

namespace qkv::test {
namespace {

using F = FullProblem;

struct Destroy {
  void operator()(qkv_plan* plan) const { qkv_plan_destroy(plan); }
};

// A plan for `desc`, which must exist.
std::unique_ptr<qkv_plan, Destroy> plan_for(const qkv_attention_desc& desc) {
  qkv_plan* plan = nullptr;
  EXPECT_EQ(qkv_plan_create(&desc, &plan), QKV_SUCCESS) << qkv_last_error();
  return std::unique_ptr<qkv_plan, Destroy>(plan);
}

// Makes a plan, changes the descriptor, runs: the outputs must stay.
template <class Change>
qkv_status run_changed(Change&& change) {
  F f;
  const auto plan = plan_for(f.desc);
  change(f);
  const F::Outputs before = f.outputs();
  const qkv_status status = qkv_plan_run(plan.get(), &f.desc, nullptr);
  EXPECT_EQ(f.outputs(), before);
  return status;
}

qkv_status run_with_lengths(int64_t first, int64_t second, qkv_type type = QKV_TYPE_I32) {
  F f;
  f.length_data = {static_cast<int32_t>(first), static_cast<int32_t>(second)};
  std::vector<int64_t> long_lengths{first, second};
  f.desc.kv_lengths = type == QKV_TYPE_I32 ? contiguous(f.length_data, type, {F::kB, 1, 1, 1})
                                           : contiguous(long_lengths, type, {F::kB, 1, 1, 1});
  const F::Outputs before = f.outputs();
  const qkv_status status = qkv_attention(&f.desc, nullptr);
  EXPECT_EQ(f.outputs(), before);
  return status;
}

}  // namespace

std::vector<Refusal> call_refusals() {
  std::vector<Refusal> rows;
  const auto add = [&](const char* name, qkv_status status, std::vector<std::string> says,
                       std::function<Outcome()> call) {
    rows.push_back({name, status, std::move(says), std::move(call)});
  };

  // The arguments beside the descriptor.
  add("attention_null", QKV_INVALID_NULL, {"descriptor is null"},
      [] { return qkv_attention(nullptr, nullptr); });
  add("newer_struct_with_new_fields_set", QKV_INVALID_STRUCT_SIZE,
      {"struct_size is", "newer libqkv"}, [] {
        struct {
          qkv_attention_desc desc;
          int64_t later;
        } newer{};
        const F f;
        newer.desc = f.desc;
        newer.desc.struct_size = sizeof newer;
        newer.later = 1;
        return qkv_attention(&newer.desc, nullptr);
      });
  add("init_null", QKV_INVALID_NULL, {"descriptor is null"},
      [] { return qkv_attention_desc_init(nullptr, sizeof(qkv_attention_desc)); });
  add("init_short", QKV_INVALID_STRUCT_SIZE, {"struct_size is 8", "this library knows"}, [] {
    qkv_attention_desc desc;
    return qkv_attention_desc_init(&desc, 8);
  });
  add("query_without_result", QKV_INVALID_NULL, {"result is null"}, [] {
    const F f;
    return qkv_query(&f.desc, nullptr);
  });
  add("query_result_size", QKV_INVALID_STRUCT_SIZE, {"result.struct_size is 0"}, [] {
    const F f;
    qkv_query_result result{};
    return qkv_query(&f.desc, &result);
  });
  add("query_null", QKV_INVALID_NULL, {"descriptor is null"}, [] {
    qkv_query_result result{};
    result.struct_size = sizeof result;
    return qkv_query(nullptr, &result);
  });
  add("plan_nowhere", QKV_INVALID_NULL, {"place for the plan is null"}, [] {
    const F f;
    return qkv_plan_create(&f.desc, nullptr);
  });
  add("workspace_size_of_null", QKV_INVALID_NULL, {"plan is null"}, [] {
    size_t bytes = 0;
    return qkv_plan_workspace_size(nullptr, &bytes);
  });
  add("workspace_size_nowhere", QKV_INVALID_NULL, {"place for the size is null"}, [] {
    const F f;
    return qkv_plan_workspace_size(plan_for(f.desc).get(), nullptr);
  });
  add("print_null", QKV_INVALID_NULL, {"plan is null"},
      [] { return qkv_plan_print(nullptr, nullptr, 0, nullptr); });
  add("print_nowhere", QKV_INVALID_NULL, {"text buffer is null", "capacity is 9"}, [] {
    const F f;
    return qkv_plan_print(plan_for(f.desc).get(), nullptr, 9, nullptr);
  });
  add("run_null_plan", QKV_INVALID_NULL, {"plan is null"}, [] {
    const F f;
    return qkv_plan_run(nullptr, &f.desc, nullptr);
  });
  add("facts_nowhere", QKV_INVALID_NULL, {"facts is null"},
      [] { return qkv_device_query(0, nullptr); });
  add("facts_size", QKV_INVALID_STRUCT_SIZE, {"facts.struct_size is 1"}, [] {
    qkv_device_facts facts{};
    facts.struct_size = 1;
    return qkv_device_query(0, &facts);
  });

  // A plan runs what it was made for.
  const char* differ = "differ from the plan's";
  add("run_other_shape", QKV_INVALID_PLAN, {differ},
      [] { return run_changed([](F& f) { f.desc.k.shape[2] = f.desc.v.shape[2] = 4; }); });
  add("run_other_stride", QKV_INVALID_PLAN, {differ},
      [] { return run_changed([](F& f) { f.desc.v.stride[2] = 0; }); });
  add("run_other_options", QKV_INVALID_PLAN, {differ},
      [] { return run_changed([](F& f) { f.desc.causal = 1; }); });
  add("run_larger_softcap", QKV_INVALID_PLAN, {differ}, [] {
    F f;
    f.desc.softcap = 128;
    const auto plan = plan_for(f.desc);
    f.desc.softcap = 127;
    if (const qkv_status status = qkv_plan_run(plan.get(), &f.desc, nullptr)) return status + 1;
    f.desc.softcap = 129;
    return qkv_plan_run(plan.get(), &f.desc, nullptr);
  });
  add("run_other_side_of_softcap", QKV_INVALID_PLAN, {differ}, [] {
    F f;
    f.desc.softcap = 1;
    f.desc.scale_set = 1, f.desc.scale = 0x1p125f;
    const auto plan = plan_for(f.desc);
    f.desc.scale = 1;
    if (const qkv_status status = qkv_plan_run(plan.get(), &f.desc, nullptr)) return status + 1;
    f.desc.scale = 0x1p126f;
    return qkv_plan_run(plan.get(), &f.desc, nullptr);
  });
  add("run_other_window", QKV_INVALID_PLAN, {differ},
      [] { return run_changed([](F& f) { f.desc.window_left = 1; }); });
  add("run_other_tensors", QKV_INVALID_PLAN, {differ},
      [] { return run_changed([](F& f) { f.desc.mask = f.mask; }); });
  add("run_less_aligned", QKV_INVALID_PLAN, {"less aligned"}, [] {
    alignas(16) static float buffer[64 * 4];
    FakeCuda cuda({fake_device(90)});
    cuda.map_everything(0);
    F f;
    f.desc.device = QKV_DEVICE_CUDA;
    f.desc.q.data = buffer;
    const auto plan = plan_for(f.desc);
    f.desc.q.data = buffer + 1;
    return qkv_plan_run(plan.get(), &f.desc, nullptr);
  });

  // Lengths in host memory.
  add("length_too_long", QKV_INVALID_VALUE, {"kv_lengths[1] is 6", "k has 5 keys"},
      [] { return run_with_lengths(5, 6); });
  add("length_negative", QKV_INVALID_VALUE, {"kv_lengths[0] is -1"},
      [] { return run_with_lengths(-1, 5); });
  add("length_beyond_32_bits", QKV_INVALID_VALUE, {"kv_lengths[1] is 4294967299", "k has 5 keys"},
      [] { return run_with_lengths(5, (int64_t{1} << 32) + 3, QKV_TYPE_I64); });

  // Workspace.
  add("workspace_missing", QKV_RESOURCE_WORKSPACE,
      {"workspace is null", "bytes (or QKV_FLAG_ALLOW_ALLOCATION)"}, [] {
        F f;
        f.desc.flags = 0;
        return qkv_attention(&f.desc, nullptr);
      });
  add("workspace_small", QKV_RESOURCE_WORKSPACE, {"workspace_size is 256", "this plan needs"}, [] {
    alignas(256) static std::byte workspace[256];
    F f;
    f.desc.workspace = workspace;
    f.desc.workspace_size = sizeof workspace;
    const F::Outputs before = f.outputs();
    const qkv_status status = qkv_attention(&f.desc, nullptr);
    EXPECT_EQ(f.outputs(), before);
    return status;
  });
  add("workspace_beyond_memory", QKV_RESOURCE_OUT_OF_MEMORY, {"no 4611686018427387904 bytes"}, [] {
    host::Plan plan;
    plan.own = std::make_unique<host::KernelPlan>();
    plan.own->workspace_bytes = size_t{1} << 62;
    host::attention::Problem problem;
    problem.batch = problem.s_q = 1;
    problem.allow_allocation = true;
    return host::run_plan(host::attention::kOp, plan, problem, host::cuda_runtime(), nullptr);
  });

  // A device that no kernel of the build serves.
  add("no_kernel_for_device", QKV_UNSUPPORTED_BUILD, {"no kernel for the tensors' device"}, [] {
    host::attention::Problem problem;
    problem.device = 77;
    host::Plan plan;
    return make_plan(problem, host::DeviceInfo(), &plan);
  });
  return rows;
}

}  // namespace qkv::test
