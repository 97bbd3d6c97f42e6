// cpu_forward: the whole contract on host memory.
#include "host/ops/attention/cpu/attention.h"

#include <memory>

#include "host/core/plan.h"
#include "host/ops/attention/op.h"

namespace qkv::host::attention {
namespace {

struct CpuPlan : KernelPlan {
  cpu::Policy policy;
  std::shared_ptr<const cpu::TileProducts> products;

  std::string text() const override {
    return text_line("tiles", policy.tile_q, " queries x ", policy.tile_kv, " keys") +
           text_line("tasks", policy.tasks, " on ", policy.threads, " threads");
  }
};

std::string cpu_decline(const Problem&, const DeviceInfo&) { return {}; }

void cpu_plan(const Problem& p, const DeviceInfo& device, CpuPlan* plan) {
  plan->policy = cpu::select_policy(p, cpu::useful_threads(p, device.threads));
  plan->workspace_bytes = plan->policy.workspace_bytes;
}

Status cpu_prepare(const Problem& p, const CudaRuntime&, CpuPlan* plan) {
  return cpu::prepare(p, plan->policy, &plan->products);
}

Status cpu_launch(const Problem& p, const CpuPlan& plan, const CudaRuntime&, const Run& run) {
  QKV_RETURN_IF_ERROR(check_lengths(p));
  return cpu::run(p, plan.policy, *plan.products, run.workspace);
}

}  // namespace

constexpr Kernel kCpuForward =
    kernel_of<Problem, CpuPlan, cpu_decline, cpu_plan, cpu_prepare, cpu_launch>("cpu_forward",
                                                                                QKV_DEVICE_CPU);

}  // namespace qkv::host::attention
