// The list of kernels, best first.
#include <array>

#include "host/core/plan.h"
#include "host/ops/attention/op.h"

namespace qkv::host {
namespace {

// cpu_forward: the whole contract on host memory.
std::string cpu_decline(const Problem&, const DeviceInfo&) { return {}; }

void cpu_plan(const Problem& p, const DeviceInfo& device, Plan* plan) {
  plan->cpu = cpu::select_policy(p, device.threads);
  plan->workspace_bytes = plan->cpu.workspace_bytes;
}

Status cpu_prepare(const Problem& p, const CudaRuntime&, Plan* plan) {
  return cpu::prepare(p, plan->cpu, &plan->products);
}

int cpu_launch(const Problem& p, const Plan& plan, void* workspace, void*, Status* status) {
  *status = check_lengths(p);
  if (status->ok()) *status = cpu::run(p, plan.cpu, *plan.products, workspace);
  return 0;
}

constexpr Kernel kCpuForward{"cpu_forward", QKV_DEVICE_CPU, cpu_decline,
                             cpu_plan,      cpu_prepare,    cpu_launch};

// clang-format off
constexpr std::array<const Kernel*, 6> kKernels{
    &kCpuForward,
    &kSm90Forward,
    &kSm80Forward,
    &kSm80Tf32x3,
    &kSimtForward,
    &kSimtGeneral,
};
// clang-format on

}  // namespace

std::span<const Kernel* const> kernels() { return kKernels; }

}  // namespace qkv::host
