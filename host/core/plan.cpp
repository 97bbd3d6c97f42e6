#include "host/core/plan.h"

#include <algorithm>
#include <stdexcept>

#include "host/core/disable.h"

namespace qkv::host {
namespace {

// Plans for the first kernel in [first, end of the op's) that takes the problem.
Status plan_from(std::span<const Kernel* const>::iterator first, const Op& op,
                 const AnyProblem& problem, const DeviceInfo& device, Plan* plan) {
  bool tried = plan->kernel != nullptr;
  for (auto at = first; at != op.kernels.end(); ++at) {
    const Kernel& kernel = **at;
    if (kernel.device != problem.device) continue;
    tried = true;
    const std::string reason =
        disabled().has(kernel.name) ? "disabled by QKV_DISABLE" : kernel.decline(problem, device);
    if (reason.empty()) {
      plan->kernel = &kernel;
      plan->own = kernel.plan(problem, device);
      return {};
    }
    plan->declined += text(kernel.name, ": ", reason, "\n");
  }
  QKV_REQUIRE(tried, QKV_UNSUPPORTED_BUILD,
              "this build of qkv has no kernel for the tensors' device");
  std::string reasons = plan->declined;
  reasons.pop_back();
  return Status(QKV_UNSUPPORTED_KERNEL, "no kernel runs this problem; " + reasons);
}

}  // namespace

PlanKey& PlanKey::operator=(const PlanKey& other) {
  words_ = other.words_;
  tensors_ = other.tensors_;
  std::copy_n(other.word_.begin(), words_, word_.begin());
  std::copy_n(other.alignment_.begin(), tensors_, alignment_.begin());
  return *this;
}

void PlanKey::overrun() {
  throw std::length_error("a plan key has no room for all that the plan depends on");
}

bool PlanKey::same_problem(const PlanKey& other) const {
  return words_ == other.words_ && tensors_ == other.tensors_ &&
         std::equal(word_.begin(), word_.begin() + words_, other.word_.begin());
}

bool PlanKey::operator==(const PlanKey& other) const {
  return same_problem(other) &&
         std::equal(alignment_.begin(), alignment_.begin() + tensors_, other.alignment_.begin());
}

bool PlanKey::serves(const PlanKey& call) const {
  return same_problem(call) &&
         std::equal(alignment_.begin(), alignment_.begin() + tensors_, call.alignment_.begin(),
                    [](uint8_t planned, uint8_t given) { return given >= planned; });
}

uint64_t PlanKey::hash() const {
  // FNV-1a over 64-bit words; the final mix spreads the high bits.
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t n = 0; n < words_; ++n) h = (h ^ static_cast<uint64_t>(word_[n])) * 0x100000001b3u;
  for (size_t n = 0; n < tensors_; ++n) h = (h ^ alignment_[n]) * 0x100000001b3u;
  return h ^ h >> 32;
}

PlanKey plan_key(const Op& op, const AnyProblem& problem, const DeviceInfo& device) {
  PlanKey key;
  key.add(static_cast<int64_t>(reinterpret_cast<intptr_t>(&op)));
  key.add(problem.device);
  key.add(problem.device_index);
  key.add(device.threads);
  key.add(static_cast<int64_t>(reinterpret_cast<intptr_t>(&disabled())));
  op.add_key(problem, &key);
  if (problem.device == QKV_DEVICE_CPU) key.forget_alignment();
  return key;
}

Status make_plan(const Op& op, const AnyProblem& problem, const DeviceInfo& device, Plan* plan) {
  for (const std::string& name : disabled().unknown)
    plan->declined += text(name, ": QKV_DISABLE names it, but there is no such kernel\n");
  return plan_from(op.kernels.begin(), op, problem, device, plan);
}

Status pass_over(const Op& op, const AnyProblem& problem, const DeviceInfo& device,
                 const std::string& reason, Plan* plan) {
  plan->declined += text(plan->kernel->name, ": ", reason, "\n");
  return plan_from(std::ranges::find(op.kernels, plan->kernel) + 1, op, problem, device, plan);
}

std::string plan_text(const Op& op, const Plan& plan, const AnyProblem& problem,
                      const DeviceInfo& device) {
  std::string out = text_line("kernel", plan.kernel->name) + text_line("device", device.name) +
                    op.text(problem) + plan.own->text() +
                    text_line("workspace", plan.workspace_bytes(), " bytes");
  if (!plan.declined.empty()) out += "declined\n";
  for (size_t at = 0; at < plan.declined.size();) {
    const size_t end = plan.declined.find('\n', at);
    out += "  " + plan.declined.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return out;
}

}  // namespace qkv::host
