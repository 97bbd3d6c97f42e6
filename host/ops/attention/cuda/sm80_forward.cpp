#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "host/ops/attention/wave_model.h"
#include "kernels/combine/launch.h"
#include "kernels/policy.h"
#include "kernels/sm80_forward/launch.h"

namespace qkv::host {
namespace {

bool has_rules(const Problem& p) {
  return p.softcap > 0 || p.mask.present() || p.bias.present() || p.alibi_slopes.present();
}

int32_t widest(const Problem& p) { return static_cast<int32_t>(std::max(p.d_qk, p.d_v)); }

// The policies that may run a problem. With a fixed split size the tile of keys, which decides the
// order of summation, must depend on nothing but dims and options: there is one policy then, the
// one whose 64 keys divide the sizes that people choose.
struct Policies {
  std::array<kernels::Sm80ForwardPolicy, 2> all{};
  size_t count = 0;

  void add(int32_t dim, kernels::Sm80Variant variant) {
    const auto policy = kernels::sm80_forward_policy(dim, variant);
    if (policy.max_dim > 0) all[count++] = policy;
  }
  std::span<const kernels::Sm80ForwardPolicy> view() const { return {all.data(), count}; }
};

Policies sm80_policies(const Problem& p) {
  Policies policies;
  const int32_t dim = widest(p);
  if (has_rules(p)) {
    policies.add(dim, kernels::Sm80Variant::kRules);
    return policies;
  }
  if (p.fixed_split_size > 0) policies.add(dim, kernels::Sm80Variant::kShort);
  if (policies.count == 0) policies.add(dim, kernels::Sm80Variant::kTall);
  if (p.fixed_split_size == 0) policies.add(dim, kernels::Sm80Variant::kShort);
  return policies;
}

std::string sm80_decline(const Problem& p, const DeviceInfo& device) {
  if (device.compute < 80) return text("needs sm_80 or newer, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  if (p.score != QKV_SCORE_DOT) return "computes scaled dot scores only";
  if (p.selection != QKV_SELECT_SOFT) return "computes soft selection only";
  if (p.weights.present()) return "does not write attention weights";
  for (const int64_t dim : {p.d_qk, p.d_v}) {
    if (dim % 8 != 0 || dim > kernels::kSm80ForwardMaxDim)
      return text("takes dims that are multiples of 8 up to ", kernels::kSm80ForwardMaxDim,
                  ", one here is ", dim);
  }
  for (const Named& tensor : {Named{"q", p.q}, Named{"k", p.k}, Named{"v", p.v}, Named{"o", p.o}}) {
    std::string reason = decline_alignment(tensor.name, tensor.view);
    if (!reason.empty()) return reason;
  }
  const Policies policies = sm80_policies(p);
  for (const kernels::Sm80ForwardPolicy& policy : policies.view()) {
    const auto smem = static_cast<int32_t>(kernels::sm80_forward_smem_bytes(policy));
    if (smem > device.smem_per_block)
      return text("needs ", smem, " bytes of shared memory, a block has ", device.smem_per_block);
    const int64_t splits = fixed_splits(p, policy.tile_kv);
    std::string reason = decline_splits(p, policy.tile_kv);
    if (reason.empty()) reason = decline_grid(p, policy.tile_q, splits);
    if (!reason.empty()) return reason;
  }
  return {};
}

// Blocks that a multiprocessor holds, as registers and shared memory allow.
int32_t resident_blocks(const kernels::Sm80ForwardPolicy& policy, const DeviceInfo& device) {
  constexpr int32_t kReserved = 1024;  // what CUDA takes of shared memory for each block
  const auto smem = static_cast<int32_t>(kernels::sm80_forward_smem_bytes(policy)) + kReserved;
  return std::max(std::min(policy.min_blocks, device.smem_per_sm / smem), 1);
}

void sm80_plan(const Problem& p, const DeviceInfo& device, Plan* plan) {
  const DeviceRates rates = device_rates(device);
  const auto batch = static_cast<int32_t>(p.batch), heads_q = static_cast<int32_t>(p.heads_q);
  const auto heads_kv = static_cast<int32_t>(p.heads_kv), s_q = static_cast<int32_t>(p.s_q);
  const int32_t ratio = heads_q / heads_kv;
  const bool can_pack = ratio > 1 && p.s_q * ratio <= INT32_MAX - 1024;
  const Policies policies = sm80_policies(p);
  Prediction best;
  for (const kernels::Sm80ForwardPolicy& policy : policies.view()) {
    // Each of four warps reads its rows of Q, and all of K and V.
    const double smem = 2.0 * policy.max_dim * (policy.tile_q + 4 * 2 * policy.tile_kv);
    const Candidate candidate{mma_step(rates, policy.tile_q, policy.tile_kv, policy.max_dim, smem,
                                       policy.variant == kernels::Sm80Variant::kRules),
                              resident_blocks(policy, device)};
    for (const int32_t group : {1, ratio}) {
      if (group > 1 && !can_pack) continue;
      auto schedule = kernels::tile_schedule(policy.tile_q, policy.tile_kv, batch, heads_q,
                                             heads_kv, s_q, group);
      const Prediction prediction = choose_splits(p, device, candidate, &schedule);
      if (best.cycles > 0 && prediction.cost() >= best.cost()) continue;
      best = prediction;
      schedule.section = sets_of_section(p, device, schedule);
      plan->schedule = schedule;
      plan->variant = policy.variant;
      plan->tile_q = policy.tile_q;
      plan->tile_kv = policy.tile_kv;
      plan->smem_bytes = static_cast<int32_t>(kernels::sm80_forward_smem_bytes(policy));
    }
  }
  plan->predicted_cycles = best.cycles;
  plan->predicted_waves = best.waves;
  plan->threads = kernels::kSm80Threads;
  plan->blocks = plan->schedule.blocks();
  if (plan->schedule.splits > 1)
    plan->workspace_bytes = static_cast<size_t>(
        kernels::partials_bytes(plan->schedule.splits, p.batch * p.heads_q * p.s_q, p.d_v));
}

#if QKV_HAS_CUDA
kernels::Sm80ForwardChoice sm80_choice(const Problem& p, const Plan& plan) {
  return {kernel_type(p), kernels::sm80_forward_policy(widest(p), plan.variant).max_dim,
          plan.variant};
}

Status sm80_prepare(const Problem& p, const CudaRuntime& cuda, Plan* plan) {
  QKV_RETURN_IF_ERROR(
      cuda.check(kernels::prepare_sm80_forward(sm80_choice(p, *plan)), "loading sm80_forward"));
  if (plan->schedule.splits == 1) return {};
  return cuda.check(kernels::prepare_combine(kernel_type(p)), "loading combine");
}

int sm80_launch(const Problem& p, const Plan& plan, void* workspace, void* stream, Status*) {
  const kernels::ForwardArgs args = forward_args(p);
  const int32_t splits = plan.schedule.splits;
  kernels::Partials partials;
  if (splits > 1)
    partials = kernels::partials_in(workspace, splits, p.batch * p.heads_q * p.s_q, p.d_v);
  const int code =
      kernels::launch_sm80_forward(sm80_choice(p, plan), args, plan.schedule, partials, stream);
  if (code != 0 || splits == 1) return code;
  return kernels::launch_combine(kernel_type(p), args, splits, partials, stream);
}
#else
constexpr auto sm80_prepare = prepare_absent;
constexpr auto sm80_launch = launch_absent;
#endif

}  // namespace

const Kernel kSm80Forward{"sm80_forward", QKV_DEVICE_CUDA, sm80_decline,
                          sm80_plan,      sm80_prepare,    sm80_launch};

}  // namespace qkv::host
