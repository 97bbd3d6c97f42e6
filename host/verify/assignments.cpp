#include "host/verify/assignments.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "host/core/device.h"
#include "host/core/op.h"
#include "host/ops/attention/op.h"
#include "host/verify/built_problem.h"
#include "host/verify/instances.h"
#include "host/verify/trials.h"

namespace qkv::verify {
namespace {

using host::Kernel;
using host::attention::kOp;

// A trial's kernel and instance.
using Reached = std::pair<std::string, std::string>;

// What every kernel of the device would launch for the trial's problem; behind the first one that
// takes it, the plan that the library would make, stand mask_summary and combine.
std::vector<Reached> reached(const Trial& trial, qkv_device device, int32_t index,
                             const host::DeviceInfo& info) {
  const BuiltProblem built(trial.row, {.contents = false});
  host::attention::Problem problem = built.oracle_problem();
  problem.device = device;
  problem.device_index = index;
  std::vector<Reached> out;
  for (const Kernel* kernel : kOp.kernels) {
    if (kernel->device != device || !kernel->decline(problem, info).empty()) continue;
    const std::string plan = kernel->plan(problem, info)->text();
    const bool first = out.empty();
    out.emplace_back(kernel->name, instance_of(kernel->name, trial.row, plan));
    if (!first) continue;
    for (const std::string& other : {summary_of(plan), combine_of(trial.row, plan)})
      if (!other.empty()) out.emplace_back(other.substr(0, other.find(' ')), other);
  }
  return out;
}

const host::DeviceInfo* device_info(qkv_device device, int32_t index) {
  static const host::DeviceInfo cpu = host::cpu_device_info();
  return device == QKV_DEVICE_CPU ? &cpu : host::cuda_runtime().device_info(index);
}

// Those of the list that the device can run, by kernel, in the library's order.
std::vector<Assignment> empty_assignments(qkv_device device, const host::DeviceInfo& info) {
  std::vector<Assignment> out;
  const auto add = [&](const std::string& kernel) { out.push_back({kernel, {}, {}, 0}); };
  for (const Kernel* kernel : kOp.kernels) {
    if (kernel->device == device) add(kernel->name);
  }
  if (device == QKV_DEVICE_CPU) {
    out.front().instances = {"cpu_forward F32", "cpu_forward F16", "cpu_forward BF16"};
  } else {
    for (const char* behind : {"mask_summary", "combine", "hard_combine", "top_k_combine"})
      add(behind);
    for (Assignment& assignment : out) {
      for (const Instance& instance : all_instances()) {
        if (instance.kernel == assignment.kernel && instance.runs_on(info.compute))
          assignment.instances.push_back(instance.name);
      }
    }
  }
  std::erase_if(out, [](const Assignment& assignment) { return assignment.instances.empty(); });
  for (const std::string& kernel : other_kernels(device)) out.push_back({kernel, {kernel}, {}, 0});
  return out;
}

}  // namespace

std::vector<std::string> kernels_of(qkv_device device, int32_t index) {
  std::vector<std::string> names;
  const host::DeviceInfo* info = device_info(device, index);
  if (info == nullptr) return names;
  for (const Assignment& one : empty_assignments(device, *info)) names.push_back(one.kernel);
  return names;
}

std::vector<Assignment> assignments(qkv_device device, int32_t index, const Selected& selected) {
  const host::DeviceInfo* info = device_info(device, index);
  if (info == nullptr) return {};
  std::vector<Assignment> out = empty_assignments(device, *info);

  std::vector<const Trial*> trials;
  for (const Trial& trial : all_trials()) {
    if (selected.trial.empty() || selected.trial == trial.name()) trials.push_back(&trial);
  }
  std::vector<std::vector<Reached>> found(trials.size());
  const auto count = static_cast<int64_t>(trials.size());
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t n = 0; n < count; ++n) {
    const Trial& trial = *trials[static_cast<size_t>(n)];
    const std::string kernel = trial.kernel(device);
    found[static_cast<size_t>(n)] = kernel.empty() ? reached(trial, device, index, *info)
                                                   : std::vector<Reached>{{kernel, kernel}};
  }
  for (size_t n = 0; n < trials.size(); ++n) {
    for (const auto& [kernel, instance] : found[n]) {
      for (Assignment& assignment : out) {
        if (assignment.kernel == kernel)
          assignment.items.push_back(
              {trials[n]->name(), instance, trials[n]->group(), trials[n]->cost()});
      }
    }
  }
  if (!selected.kernel.empty())
    std::erase_if(out, [&](const Assignment& one) { return one.kernel != selected.kernel; });
  for (Assignment& assignment : out) {
    if (!selected.trial.empty()) assignment.instances.clear();
    put_in_order(&assignment, selected.seed);
  }
  return out;
}

std::string all_but(const std::string& kernel) {
  std::string names;
  for (const Kernel* other : kOp.kernels) {
    if (other->device != QKV_DEVICE_CUDA || other->name == kernel) continue;
    names += (names.empty() ? "" : ",") + std::string(other->name);
  }
  return names;
}

}  // namespace qkv::verify
