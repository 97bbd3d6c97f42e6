#include <algorithm>
#include <array>
#include <cstdint>

#include "host/ops/attention/op.h"
#include "host/ops/attention/splits.h"
#include "kernels/attention/hard_combine/launch.h"
#include "kernels/attention/sm80_tf32x3_hard/launch.h"
#include "kernels/core/hard_lse.h"

namespace qkv::host::attention {
namespace {

kernels::Sm80Tf32x3HardPolicy hard_policy(const Problem& p) {
  return kernels::sm80_tf32x3_hard_policy(static_cast<int32_t>(p.d_qk), has_rules(p));
}

std::string hard_decline(const Problem& p, const DeviceInfo& device) {
  if (p.selection != QKV_SELECT_HARD) return "computes hard selection only";
  if (p.type != QKV_TYPE_F32) return "computes in fp32 only";
  // Compiled where sm80_tf32x3 is: see its policy.h.
  if (device.compute != 80 && device.compute != 90)
    return text("gains on sm_80 and sm_90 only, the device is sm_", device.compute);
  constexpr Takes kTakes{.hard = true,
                         .softcap = true,
                         .tensors = tensor_set({kMask, kBias, kAlibi, kLengths, kLse, kIndex})};
  std::string reason = decline_options(p, kTakes);
  if (reason.empty()) reason = decline_selected_dims(p, 4, kernels::kSm80Tf32x3HardMaxDim);
  if (reason.empty()) reason = decline_alignment(p);
  if (!reason.empty()) return reason;
  return decline_grid(p, kernels::kSm80Tf32x3HardTileQ, 1);
}

// Q K^T is three products at half the rate of 16-bit types; 3 instructions for an element of Q or K
// that a warp splits, 3 for a score, and with rules some 10 more. Two tiles of K are on their way
// at a time. Each of four warps reads and splits all of K, and its own rows of Q again for each
// block.
StepCost hard_step(const DeviceRates& rates, const kernels::Sm80Tf32x3HardPolicy& policy) {
  constexpr double kTileQ = kernels::kSm80Tf32x3HardTileQ;
  const double scores = kTileQ * policy.tile_kv;
  const double product = 6 * scores * policy.max_dim / rates.mma;
  const double split = 3.0 * policy.max_dim * (kTileQ + 4 * policy.tile_kv) / 128;
  const double select = scores * (policy.rules ? 13.0 : 3.0) / 128;
  const double bytes = 4.0 * policy.tile_kv * policy.max_dim;
  const double read = 4 * bytes + 4 * kTileQ * policy.max_dim;
  const double copy = rates.latency + bytes / kernels::kSm80Tf32x3HardStages * 2 / kCopyBytes;
  return {std::max({product, split + select, read / kSmemBytes, bytes / kL2Bytes}),
          std::max(product + split + select, copy / 2)};
}

// Blocks that a multiprocessor holds, as registers and shared memory allow.
int32_t resident_blocks(const kernels::Sm80Tf32x3HardPolicy& policy, const DeviceInfo& device) {
  constexpr int32_t kReserved = 1024;  // what CUDA takes of shared memory for each block
  const auto smem = static_cast<int32_t>(kernels::sm80_tf32x3_hard_smem_bytes(policy)) + kReserved;
  return std::max(std::min(policy.min_blocks, device.smem_per_sm / smem), 1);
}

int64_t best_keys_bytes(const Problem& p, const SplitPlan& plan) {
  const int32_t splits = plan.schedule.splits;
  return splits == 1 ? 0 : kernels::best_keys_bytes(splits, p.batch * p.heads_q * p.s_q);
}

void hard_plan(const Problem& p, const DeviceInfo& device, SplitPlan* plan) {
  const kernels::Sm80Tf32x3HardPolicy policy = hard_policy(p);
  const std::array choices{
      TileChoice{kernels::kSm80Tf32x3HardTileQ,
                 policy.tile_kv,
                 {hard_step(device_rates(device), policy), resident_blocks(policy, device)}}};
  const int64_t ratio = p.heads_q / p.heads_kv;
  const bool can_pack = ratio > 1 && p.s_q * ratio <= INT32_MAX - 1024;
  choose_cut(without_v(p), device, choices, can_pack, plan);
  plan->workspace_bytes = static_cast<size_t>(best_keys_bytes(p, *plan));
  plan->threads = kernels::kSm80Tf32x3HardThreads;
  plan->smem_bytes = static_cast<int32_t>(kernels::sm80_tf32x3_hard_smem_bytes(policy));
}

#if QKV_HAS_CUDA
kernels::Sm80Tf32x3HardChoice hard_choice(const Problem& p) {
  return {hard_policy(p).max_dim, has_rules(p)};
}

Status hard_prepare(const Problem& p, const CudaRuntime& cuda, SplitPlan* plan) {
  QKV_RETURN_IF_ERROR(cuda.load("loading sm80_tf32x3_hard",
                                [&] { return kernels::prepare_sm80_tf32x3_hard(hard_choice(p)); }));
  if (plan->schedule.splits == 1) return {};
  return cuda.load("loading hard_combine", [] { return kernels::prepare_hard_combine(); });
}

Status hard_launch(const Problem& p, const SplitPlan& plan, const CudaRuntime& cuda,
                   const Run& run) {
  return cuda.queue(run, [&] {
    const kernels::ForwardArgs args = forward_args(p);
    auto* of_splits = static_cast<kernels::BestKey*>(run.workspace);
    const int launched = kernels::launch_sm80_tf32x3_hard(hard_choice(p), args, plan.schedule,
                                                          of_splits, run.stream);
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

constexpr Kernel kSm80Tf32x3Hard =
    kernel_of<Problem, SplitPlan, hard_decline, hard_plan, hard_prepare, hard_launch>(
        "sm80_tf32x3_hard", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
