// cpu_layer and layer: the steps of a layer by the kernels of their own ops, one after the other,
// on the device that all of them have.
#include <algorithm>
#include <array>
#include <string>

#include "host/core/plan.h"
#include "host/core/plan_cache.h"
#include "host/core/verbose.h"
#include "host/ops/attention/op.h"
#include "host/ops/layer/op.h"
#include "host/ops/project/op.h"

namespace qkv::host::layer {
namespace {

constexpr size_t kMostSteps = kProductCount + 1;

// Calls visit(n, name, op, problem) for each step in the order of the run, until one fails.
template <class Visit>
Status each_step(const Problem& p, Visit&& visit) {
  constexpr const char* kNames[] = {"q", "k", "v", "y"};
  size_t n = 0;
  const auto product = [&](ProductId id) {
    if (!p.has(id)) return Status();
    const char* const name = id == kProductQ && p.packed ? "qkv" : kNames[id];
    return visit(n++, name, project::kOp, p.products[id]);
  };
  for (const ProductId id : {kProductQ, kProductK, kProductV}) QKV_RETURN_IF_ERROR(product(id));
  QKV_RETURN_IF_ERROR(visit(n++, "attention", attention::kOp, p.attention));
  return product(kProductY);
}

struct LayerPlan : KernelPlan {
  Problem problem;  // for printing
  DeviceInfo device;
  std::array<Plan, kMostSteps> steps;
  size_t scratch = 0;  // where the steps' own workspace begins, which they have in turn

  void count_workspace() {
    size_t most = 0;
    for (const Plan& step : steps)
      if (step.kernel != nullptr) most = std::max(most, step.workspace_bytes());
    scratch = aligned(problem.buffer_bytes);
    workspace_bytes = most == 0 ? problem.buffer_bytes : scratch + most;
  }

  std::string text() const override;
};

// Each step's plan under its name, two columns further in.
std::string LayerPlan::text() const {
  std::string out;
  (void)each_step(problem, [&](size_t n, const char* name, const Op& op, const AnyProblem& step) {
    const std::string lines = plan_text(op, steps[n], step, device);
    out += host::text("step ", name, "\n");
    for (size_t at = 0; at < lines.size();) {
      const size_t end = lines.find('\n', at) + 1;
      const std::string line = lines.substr(at, end - at);
      if (!line.starts_with("device ")) out += "  " + line;
      at = end;
    }
    return Status();
  });
  return out;
}

// Why a step has no plan, on one line.
Status of_step(const char* name, const Status& status) {
  if (status.ok()) return status;
  std::string reason = status.reason();
  for (size_t at = 0; (at = reason.find('\n', at)) != std::string::npos;)
    reason.replace(at, 1, "; ");
  return Status(status.code(), host::text("step ", name, ": ", reason));
}

Status plan_steps(const Problem& p, const DeviceInfo& device, std::array<Plan, kMostSteps>* plans) {
  return each_step(p, [&](size_t n, const char* name, const Op& op, const AnyProblem& step) {
    return of_step(name, make_plan(op, step, device, &(*plans)[n]));
  });
}

std::string layer_decline(const Problem& p, const DeviceInfo& device) {
  std::array<Plan, kMostSteps> plans;
  return plan_steps(p, device, &plans).reason();
}

void layer_plan(const Problem& p, const DeviceInfo& device, LayerPlan* plan) {
  plan->problem = p;
  plan->device = device;
  (void)plan_steps(p, device, &plan->steps);  // layer_decline() has seen to it that there are plans
  plan->count_workspace();
}

// As new_plan() does with an op of its own; a step without work is never launched. That no kernel
// is left for a step is what a kernel says that is missing here.
Status layer_prepare(const Problem& p, const CudaRuntime& cuda, LayerPlan* plan) {
  QKV_RETURN_IF_ERROR(
      each_step(p, [&](size_t n, const char* name, const Op& op, const AnyProblem& step) {
        Plan* const own = &plan->steps[n];
        if (op.empty(step)) return Status();
        const Status prepared = prepare_plan(op, step, plan->device, cuda, own);
        if (!prepared.ok()) {
          const bool missing = prepared.code() == QKV_UNSUPPORTED_KERNEL;
          return of_step(name, missing ? Status(QKV_UNSUPPORTED, prepared.reason()) : prepared);
        }
        if (verbose(kVerboseDispatch)) log_plan(op, *own, step);
        return Status();
      }));
  plan->count_workspace();
  return {};
}

Status layer_launch(const Problem& given, const LayerPlan& plan, const CudaRuntime& cuda,
                    const Run& run) {
  Problem p = given;
  p.place(run.workspace);
  void* const scratch = static_cast<std::byte*>(run.workspace) + plan.scratch;
  return each_step(p, [&](size_t n, const char*, const Op& op, const AnyProblem& step) {
    if (op.empty(step)) return Status();
    const Plan& own = plan.steps[n];
    const Status done =
        own.kernel->launch(step, *own.own, cuda, {own.kernel->name, scratch, run.stream});
    const bool refused = qkv_status_class(done.code()) == QKV_INVALID_ARGUMENT;
    return &op == &attention::kOp && refused ? of_attention(done) : done;
  });
}

constexpr Kernel kernel(const char* name, qkv_device device) {
  return kernel_of<Problem, LayerPlan, layer_decline, layer_plan, layer_prepare, layer_launch>(
      name, device);
}

// Builds without CUDA plan its steps and no more.
constexpr Kernel cuda_kernel() {
  Kernel out = kernel("layer", QKV_DEVICE_CUDA);
  out.built = QKV_HAS_CUDA != 0;
  return out;
}

}  // namespace

constexpr Kernel kCpuLayer = kernel("cpu_layer", QKV_DEVICE_CPU);
constexpr Kernel kCudaLayer = cuda_kernel();

}  // namespace qkv::host::layer
