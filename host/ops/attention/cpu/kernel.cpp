// cpu_forward: the whole contract on host memory.
#include "host/ops/attention/cpu/attention.h"

#include <memory>
#include <string>

#include "host/core/plan.h"
#include "host/ops/attention/op.h"

namespace qkv::host::attention {
namespace {

struct CpuPlan : KernelPlan {
  cpu::Policy policy;
  std::shared_ptr<const cpu::TileProducts> products;

  std::string text() const override {
    return text_line("tiles", policy.tile_q, policy.heads > 1 ? " queries of " : " queries",
                     policy.heads > 1 ? std::to_string(policy.heads) + " heads" : "", " x ",
                     policy.tile_kv, " keys", policy.few_rows ? ", read as they lie" : "") +
           text_line("tasks", policy.tasks, " on ", policy.threads, " threads",
                     policy.parts > 1
                         ? ", keys in " + std::to_string(policy.parts) + " parts, merged"
                         : "");
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
