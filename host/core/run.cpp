#include "host/core/run.h"

#include <chrono>
#include <cstdlib>
#include <memory>

#include "host/core/current_device.h"
#include "host/core/plan_cache.h"
#include "host/core/tensor_check.h"
#include "host/core/verbose.h"

namespace qkv::host {
namespace {

constexpr size_t kWorkspaceAlignment = 256;

Status missing_workspace(const AnyProblem& p, size_t needed) {
  return Status(QKV_RESOURCE_WORKSPACE, p.workspace == nullptr
                                            ? text("workspace is null; this plan needs ", needed,
                                                   " bytes (or QKV_FLAG_ALLOW_ALLOCATION)")
                                            : text("workspace_size is ", p.workspace_size,
                                                   "; this plan needs ", needed, " bytes"));
}

// The caller's workspace, before a kernel that needs it writes there.
Status check_workspace(const Op& op, const AnyProblem& p, size_t needed, const CudaRuntime& cuda) {
  if (p.workspace_size < needed) return missing_workspace(p, needed);
  const auto size = static_cast<int64_t>(needed);
  const View bytes{p.workspace, QKV_TYPE_BOOL, {1, 1, 1, size}, {0, 0, 0, 1}};
  const Named workspace{"workspace", bytes};
  QKV_RETURN_IF_ERROR(check_placed({&workspace, 1}, cuda, {p.device, p.device_index}));
  const char* const tensor = op.sharing(p, bytes);
  QKV_REQUIRE(tensor == nullptr, QKV_INVALID_OVERLAP, "workspace, of which this plan needs ",
              needed, " bytes, shares memory with ", tensor);
  return {};
}

Status run_on_cpu(const Op& op, const Plan& plan, const AnyProblem& p, const CudaRuntime& cuda) {
  const size_t needed = plan.workspace_bytes();
  void* workspace = p.workspace;
  std::unique_ptr<void, void (*)(void*)> owned(nullptr, std::free);
  if (needed > 0 && (p.workspace != nullptr || !p.allow_allocation)) {
    QKV_RETURN_IF_ERROR(check_workspace(op, p, needed, cuda));
  } else if (needed > 0) {
    const size_t rounded = (needed + kWorkspaceAlignment - 1) & ~(kWorkspaceAlignment - 1);
    owned.reset(std::aligned_alloc(kWorkspaceAlignment, rounded));
    QKV_REQUIRE(owned != nullptr, QKV_RESOURCE_OUT_OF_MEMORY, "no ", needed,
                " bytes of host memory for the workspace");
    workspace = owned.get();
  }
  return plan.kernel->launch(p, *plan.own, cuda, {plan.kernel->name, workspace, nullptr});
}

Status run_on_cuda(const Op& op, const Plan& plan, const AnyProblem& p, const CudaRuntime& cuda,
                   void* stream) {
  QKV_RETURN_IF_ERROR(cuda.pending_error());
  CurrentDevice current(cuda);
  QKV_RETURN_IF_ERROR(current.set(p.device_index));
  const size_t needed = plan.workspace_bytes();
  void* workspace = p.workspace;
  void* owned = nullptr;
  if (needed > 0 && (p.workspace != nullptr || !p.allow_allocation)) {
    QKV_RETURN_IF_ERROR(check_workspace(op, p, needed, cuda));
  } else if (needed > 0) {
    QKV_RETURN_IF_ERROR(cuda.allocate(needed, stream, &owned));
    workspace = owned;
  }
  const Run run{plan.kernel->name, workspace, stream};
  Status status = plan.kernel->launch(p, *plan.own, cuda, run);
  if (owned != nullptr) {
    Status released = cuda.release(owned, stream);  // in stream order: after the kernel
    if (status.ok()) status = std::move(released);
  }
  Status restored = current.restore();
  return status.ok() ? restored : status;
}

}  // namespace

Status run_plan(const Op& op, const Plan& plan, const AnyProblem& p, const CudaRuntime& cuda,
                void* stream) {
  if (op.empty(p)) return {};
  const auto run = [&] {
    return p.device == QKV_DEVICE_CPU ? run_on_cpu(op, plan, p, cuda)
                                      : run_on_cuda(op, plan, p, cuda, stream);
  };
  if (!verbose(kVerboseExec)) return run();
  const auto start = std::chrono::steady_clock::now();
  Status status = run();
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
  if (status.ok()) log_run(plan.kernel->name, op.repro(p), took.count());
  return status;
}

Status run(const Op& op, const AnyProblem& p, const CudaRuntime& cuda, void* stream) {
  if (op.empty(p)) return {};
  SharedPlan plan;
  QKV_RETURN_IF_ERROR(cached_plan(op, p, cuda, &plan));
  return run_plan(op, plan->plan, p, cuda, stream);
}

}  // namespace qkv::host
