#include <algorithm>
#include <cstdint>

#include "host/ops/attention/op.h"
#include "host/ops/attention/splits.h"
#include "kernels/attention/sm80_additive/launch.h"

namespace qkv::host::attention {
namespace {

struct AdditivePlan : SplitPlan {
  kernels::Sm80AdditivePolicy policy;
};

// Rows of a tile share the weights of one head.
bool can_pack(const Problem& p) {
  const int64_t ratio = p.heads_q / p.heads_kv;
  return ratio > 1 && p.s_q * ratio <= INT32_MAX - 1024 && p.additive_weight.stride[1] == 0;
}

// The one with rules has fewer rows, and serves few of them best. With a fixed split size, where
// the tile of keys decides the order of summation, it is the only one: its 64 keys divide the sizes
// that people choose.
kernels::Sm80AdditivePolicy policy_of(const Problem& p) {
  const auto rules = kernels::sm80_additive_policy(widest(p), true);
  const int64_t rows = can_pack(p) ? p.s_q * (p.heads_q / p.heads_kv) : p.s_q;
  if (has_rules(p) || p.fixed_split_size > 0 || rows <= rules.tile_q) return rules;
  return kernels::sm80_additive_policy(widest(p), false);
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
  const kernels::Sm80AdditivePolicy policy = policy_of(p);
  const auto smem = static_cast<int32_t>(kernels::sm80_additive_smem_bytes(policy));
  if (smem > device.smem_per_block)
    return text("needs ", smem, " bytes of shared memory, a block has ", device.smem_per_block);
  reason = decline_splits(p, policy.tile_kv);
  if (reason.empty()) reason = decline_grid(p, policy.tile_q, fixed_splits(p, policy.tile_kv));
  return reason;
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
  plan->policy = policy_of(p);
  const TileChoice only{
      plan->policy.tile_q,
      plan->policy.tile_kv,
      {additive_step(device_rates(device), plan->policy, static_cast<double>(p.d_qk)),
       resident_blocks(plan->policy, device)}};
  choose_cut(p, device, {&only, 1}, can_pack(p), plan);
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
