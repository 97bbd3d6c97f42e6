#include <algorithm>
#include <array>
#include <cstdint>

#include "host/ops/attention/op.h"
#include "host/ops/attention/splits.h"
#include "kernels/attention/hard_combine/launch.h"
#include "kernels/attention/sm80_hard/launch.h"
#include "kernels/core/hard_lse.h"

namespace qkv::host::attention {
namespace {

kernels::Sm80HardPolicy hard_policy(const Problem& p) {
  return kernels::sm80_hard_policy(static_cast<int32_t>(p.d_qk), has_rules(p));
}

std::string hard_decline(const Problem& p, const DeviceInfo& device) {
  if (p.selection != QKV_SELECT_HARD) return "computes hard selection only";
  if (device.compute < 80) return text("needs sm_80 or newer, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  constexpr Takes kTakes{.hard = true,
                         .softcap = true,
                         .tensors = tensor_set({kMask, kBias, kAlibi, kLengths, kLse, kIndex})};
  std::string reason = decline_options(p, kTakes);
  if (reason.empty()) reason = decline_selected_dims(p, 8, kernels::kSm80HardMaxDim);
  if (reason.empty()) reason = decline_alignment(p);
  if (!reason.empty()) return reason;
  const kernels::Sm80HardPolicy policy = hard_policy(p);
  const auto smem = static_cast<int32_t>(kernels::sm80_hard_smem_bytes(policy));
  if (smem > device.smem_per_block)
    return text("needs ", smem, " bytes of shared memory, a block has ", device.smem_per_block);
  return decline_grid(p, policy.tile_q, 1);
}

// Q K^T; a compare for each score, and with rules some 10 instructions more. Two tiles of K are on
// their way at a time. Each of four warps reads all of K.
StepCost hard_step(const DeviceRates& rates, const kernels::Sm80HardPolicy& policy) {
  const double scores = static_cast<double>(policy.tile_q) * policy.tile_kv;
  const double product = scores * policy.max_dim / rates.mma;
  const double select = scores * (policy.rules ? 12.0 : 2.0) / 128;
  const double bytes = 2.0 * policy.tile_kv * policy.max_dim;
  const double copy = rates.latency + bytes / kernels::kSm80HardStages * 2 / kCopyBytes;
  return {std::max({product, select, 4 * bytes / kSmemBytes, bytes / kL2Bytes}),
          std::max(product + select, copy / 2)};
}

// Blocks that a multiprocessor holds, as registers and shared memory allow.
int32_t resident_blocks(const kernels::Sm80HardPolicy& policy, const DeviceInfo& device) {
  constexpr int32_t kReserved = 1024;  // what CUDA takes of shared memory for each block
  const auto smem = static_cast<int32_t>(kernels::sm80_hard_smem_bytes(policy)) + kReserved;
  return std::max(std::min(policy.min_blocks, device.smem_per_sm / smem), 1);
}

int64_t best_keys_bytes(const Problem& p, const SplitPlan& plan) {
  const int32_t splits = plan.schedule.splits;
  return splits == 1 ? 0 : kernels::best_keys_bytes(splits, p.batch * p.heads_q * p.s_q);
}

void hard_plan(const Problem& p, const DeviceInfo& device, SplitPlan* plan) {
  const kernels::Sm80HardPolicy policy = hard_policy(p);
  const std::array choices{
      TileChoice{policy.tile_q,
                 policy.tile_kv,
                 {hard_step(device_rates(device), policy), resident_blocks(policy, device)}}};
  const int64_t ratio = p.heads_q / p.heads_kv;
  const bool can_pack = ratio > 1 && p.s_q * ratio <= INT32_MAX - 1024;
  choose_cut(without_v(p), device, choices, can_pack, plan);
  plan->workspace_bytes = static_cast<size_t>(best_keys_bytes(p, *plan));
  plan->threads = kernels::kSm80HardThreads;
  plan->smem_bytes = static_cast<int32_t>(kernels::sm80_hard_smem_bytes(policy));
}

#if QKV_HAS_CUDA
kernels::Sm80HardChoice hard_choice(const Problem& p) {
  return {kernel_type(p), hard_policy(p).max_dim, has_rules(p)};
}

Status hard_prepare(const Problem& p, const CudaRuntime& cuda, SplitPlan* plan) {
  QKV_RETURN_IF_ERROR(
      cuda.load("loading sm80_hard", [&] { return kernels::prepare_sm80_hard(hard_choice(p)); }));
  if (plan->schedule.splits == 1) return {};
  return cuda.load("loading hard_combine", [] { return kernels::prepare_hard_combine(); });
}

Status hard_launch(const Problem& p, const SplitPlan& plan, const CudaRuntime& cuda,
                   const Run& run) {
  return cuda.queue(run, [&] {
    const kernels::ForwardArgs args = forward_args(p);
    auto* of_splits = static_cast<kernels::BestKey*>(run.workspace);
    const int launched =
        kernels::launch_sm80_hard(hard_choice(p), args, plan.schedule, of_splits, run.stream);
    if (launched != 0 || plan.schedule.splits == 1) return launched;
    return kernels::launch_hard_combine(args, static_cast<int32_t>(type_size(p.type)),
                                        kernels::hard_lse_factor(has_rules(p), p.scale),
                                        plan.schedule.splits, of_splits, run.stream);
  });
}
#else
constexpr auto hard_prepare = prepare_absent<Problem, SplitPlan>;
constexpr auto hard_launch = launch_absent<Problem, SplitPlan>;
#endif

}  // namespace

constexpr Kernel kSm80Hard =
    kernel_of<Problem, SplitPlan, hard_decline, hard_plan, hard_prepare, hard_launch>(
        "sm80_hard", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
