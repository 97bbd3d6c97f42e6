#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "host/ops/attention/op.h"
#include "host/ops/attention/splits.h"
#include "kernels/attention/sm80_additive/launch.h"

namespace qkv::host::attention {
namespace {

struct AdditivePlan : SplitPlan {
  kernels::Sm80AdditivePolicy policy;
};

// The policies that may run a problem. The one with rules has fewer queries and serves few of them
// best. With a fixed split size, where the tile of keys decides the order of summation, it is the
// only one: its 64 keys divide the sizes that people choose.
struct Policies {
  static constexpr size_t kMost = 2;
  std::array<kernels::Sm80AdditivePolicy, kMost> all{};
  size_t count = 0;

  std::span<const kernels::Sm80AdditivePolicy> view() const { return {all.data(), count}; }
};

Policies additive_policies(const Problem& p) {
  Policies policies;
  const auto add = [&](bool rules) {
    policies.all[policies.count++] = kernels::sm80_additive_policy(widest(p), rules);
  };
  if (!has_rules(p) && p.fixed_split_size == 0) add(false);
  add(true);
  return policies;
}

std::string additive_decline(const Problem& p, const DeviceInfo& device) {
  if (p.score != QKV_SCORE_ADDITIVE) return "computes additive scores only";
  if (device.compute < 80) return text("needs sm_80 or newer, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  constexpr Takes kTakes{.additive = true,
                         .softcap = true,
                         .tensors = tensor_set({kMask, kBias, kAlibi, kAdditive, kLengths, kLse})};
  std::string reason = decline_options(p, kTakes);
  if (reason.empty()) reason = decline_dims(p, 8, kernels::kSm80AdditiveMaxDim);
  if (reason.empty()) reason = decline_alignment(p);
  if (!reason.empty()) return reason;
  const Policies policies = additive_policies(p);
  for (const kernels::Sm80AdditivePolicy& policy : policies.view()) {
    const auto smem = static_cast<int32_t>(kernels::sm80_additive_smem_bytes(policy));
    if (smem > device.smem_per_block)
      return text("needs ", smem, " bytes of shared memory, a block has ", device.smem_per_block);
    reason = decline_splits(p, policy.tile_kv);
    if (reason.empty()) reason = decline_grid(p, policy.tile_q, fixed_splits(p, policy.tile_kv));
    if (!reason.empty()) return reason;
  }
  return {};
}

// Products of 2 N features a dim, and P V. Instructions of 128 lanes: some 40 for a query's dim, 65
// for a key's, and what the scores take.
StepCost additive_step(const DeviceRates& rates, const kernels::Sm80AdditivePolicy& policy,
                       double d_qk) {
  const double scores = static_cast<double>(policy.tile_q) * policy.tile_kv;
  const double product =
      scores * (2 * kernels::kSeriesHarmonics * d_qk + policy.max_dim) / rates.mma;
  const double features = d_qk * (40.0 * policy.tile_q + 65.0 * policy.tile_kv) / 128;
  const double softmax = scores * (policy.rules ? 14.5 : 4.5) / 128;
  return {std::max(product, features + softmax), product + features / 2 + softmax};
}

// Blocks that a multiprocessor holds, as registers and shared memory allow.
int32_t resident_blocks(const kernels::Sm80AdditivePolicy& policy, const DeviceInfo& device) {
  constexpr int32_t kReserved = 1024;  // what CUDA takes of shared memory for each block
  const auto smem = static_cast<int32_t>(kernels::sm80_additive_smem_bytes(policy)) + kReserved;
  return std::max(std::min(policy.min_blocks, device.smem_per_sm / smem), 1);
}

void additive_plan(const Problem& p, const DeviceInfo& device, AdditivePlan* plan) {
  const DeviceRates rates = device_rates(device);
  const Policies policies = additive_policies(p);
  std::array<TileChoice, Policies::kMost> choices{};
  for (size_t n = 0; n < policies.count; ++n) {
    const kernels::Sm80AdditivePolicy& policy = policies.all[n];
    choices[n] = {policy.tile_q,
                  policy.tile_kv,
                  {additive_step(rates, policy, static_cast<double>(p.d_qk)),
                   resident_blocks(policy, device)}};
  }
  // Rows of a tile share the weights of one head.
  const int64_t ratio = p.heads_q / p.heads_kv;
  const bool can_pack =
      ratio > 1 && p.s_q * ratio <= INT32_MAX - 1024 && p.additive_weight.stride[1] == 0;
  const size_t chosen =
      choose_cut(p, device, std::span(choices).first(policies.count), can_pack, plan);
  plan->policy = policies.all[chosen];
  plan->threads = kernels::kSm80AdditiveThreads;
  plan->smem_bytes = static_cast<int32_t>(kernels::sm80_additive_smem_bytes(plan->policy));
}

#if QKV_HAS_CUDA
kernels::Sm80AdditiveChoice additive_choice(const Problem& p, const AdditivePlan& plan) {
  return {kernel_type(p), plan.policy.max_dim, plan.policy.rules};
}

Status additive_prepare(const Problem& p, const CudaRuntime& cuda, AdditivePlan* plan) {
  QKV_RETURN_IF_ERROR(cuda.load("loading sm80_additive", [&] {
    return kernels::prepare_sm80_additive(additive_choice(p, *plan));
  }));
  return load_combine(p, *plan, cuda);
}

Status additive_launch(const Problem& p, const AdditivePlan& plan, const CudaRuntime& cuda,
                       const Run& run) {
  return cuda.queue(run, [&] {
    const kernels::ForwardArgs args = forward_args(p);
    const kernels::Partials partials = partials_of(p, plan, run.workspace);
    const int launched = kernels::launch_sm80_additive(additive_choice(p, plan), args,
                                                       plan.schedule, partials, run.stream);
    return combine(launched, p, plan, args, partials, run.stream);
  });
}
#else
constexpr auto additive_prepare = prepare_absent<Problem, AdditivePlan>;
constexpr auto additive_launch = launch_absent<Problem, AdditivePlan>;
#endif

}  // namespace

constexpr Kernel kSm80Additive =
    kernel_of<Problem, AdditivePlan, additive_decline, additive_plan, additive_prepare,
              additive_launch>("sm80_additive", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
