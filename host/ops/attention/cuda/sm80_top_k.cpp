#include <algorithm>
#include <cmath>
#include <cstdint>

#include "host/ops/attention/op.h"
#include "host/ops/attention/splits.h"
#include "kernels/attention/sm80_top_k/launch.h"
#include "kernels/attention/top_k_combine/launch.h"

namespace qkv::host::attention {
namespace {

struct TopKPlan : SplitPlan {
  kernels::Sm80TopKPolicy policy{};
  int32_t most_smem = 0;  // of a block, for any k that has room on the device
};

kernels::Sm80TopKPolicy policy_of(const Problem& p, bool rules) {
  return kernels::sm80_top_k_policy(static_cast<int32_t>(p.d_qk), rules);
}

int32_t smem_of(const Problem& p, const kernels::Sm80TopKPolicy& policy) {
  return kernels::sm80_top_k_smem_bytes(policy, static_cast<int32_t>(p.top_k));
}

// Tall tiles read K half as often. Those with rules, of half as many rows, also serve what fits
// into one of them, and where the lists of a tall one have no room.
kernels::Sm80TopKPolicy policy_for(const Problem& p, const DeviceInfo& device) {
  const kernels::Sm80TopKPolicy tall = policy_of(p, false), low = policy_of(p, true);
  const bool fits_low = p.s_q <= low.tile_q / (p.heads_q / p.heads_kv);
  const bool has_room = smem_of(p, tall) <= device.smem_per_block;
  return has_rules(p) || fits_low || !has_room ? low : tall;
}

std::string top_k_decline(const Problem& p, const DeviceInfo& device) {
  if (p.selection != QKV_SELECT_TOP_K) return "computes top-k selection only";
  if (device.compute < 80) return text("needs sm_80 or newer, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  constexpr Takes kTakes{
      .top_k = true,
      .softcap = true,
      .tensors = tensor_set({kMask, kBias, kAlibi, kLengths, kLse, kIndex, kTopScores})};
  std::string reason = decline_options(p, kTakes);
  if (reason.empty()) reason = decline_selected_dims(p, 8, kernels::kSm80TopKMaxDim);
  if (reason.empty()) reason = decline_alignment(p);
  if (!reason.empty()) return reason;
  const kernels::Sm80TopKPolicy policy = policy_for(p, device);
  if (smem_of(p, policy) > device.smem_per_block)
    return text("needs ", smem_of(p, policy), " bytes of shared memory for lists of ", p.top_k,
                " keys, a block has ", device.smem_per_block);
  return decline_grid(p, policy.tile_q, 1);
}

// Cycles in which a warp puts what waits into its rows' lists, of a step in the mean (an estimate,
// for scores in any order): lists are merged each time that kTopPending more keys have passed the
// bar, while the keys seen grow by a factor of 1 + kTopPending / k.
double merge_cycles(const Problem& p, const kernels::Sm80TopKPolicy& policy) {
  const auto waiting = static_cast<double>(kernels::kTopPending), k = static_cast<double>(p.top_k);
  const double keys = std::max(static_cast<double>(p.s_kv), waiting);
  const double merges = 1 + std::log(keys / waiting) / std::log1p(waiting / k);
  const double of_merge = 200 + 130 * std::ceil(k / 32);
  return policy.tile_q / 4.0 * merges * of_merge * kernels::kSm80TopKTileKv / keys;
}

// Q K^T; a compare for each score, and with rules some 10 instructions more; lists. Two tiles of K
// are on their way at a time. Each of four warps reads all of K.
StepCost top_k_step(const Problem& p, const DeviceRates& rates,
                    const kernels::Sm80TopKPolicy& policy) {
  constexpr int32_t kTileKv = kernels::kSm80TopKTileKv;
  const double scores = static_cast<double>(policy.tile_q) * kTileKv;
  const double product = scores * policy.max_dim / rates.mma;
  const double select = scores * (policy.rules ? 12.0 : 3.0) / 128 + merge_cycles(p, policy);
  const double bytes = 2.0 * kTileKv * policy.max_dim;
  const double copy = rates.latency + bytes / kernels::kSm80TopKStages * 2 / kCopyBytes;
  return {std::max({product, select, 4 * bytes / kSmemBytes, bytes / kL2Bytes}),
          std::max(product + select, copy / 2)};
}

// Blocks that a multiprocessor holds, as registers and shared memory allow.
int32_t resident_blocks(const Problem& p, const kernels::Sm80TopKPolicy& policy,
                        const DeviceInfo& device) {
  constexpr int32_t kReserved = 1024;  // what CUDA takes of shared memory for each block
  const int32_t smem = smem_of(p, policy) + kReserved;
  return std::max(std::min(policy.min_blocks, device.smem_per_sm / smem), 1);
}

int64_t top_lists_bytes(const Problem& p, const SplitPlan& plan) {
  const int32_t splits = plan.schedule.splits;
  return splits == 1 ? 0 : kernels::top_lists_bytes(splits, p.batch * p.heads_q * p.s_q, p.top_k);
}

void top_k_plan(const Problem& p, const DeviceInfo& device, TopKPlan* plan) {
  plan->policy = policy_for(p, device);
  const TileChoice only{plan->policy.tile_q,
                        kernels::kSm80TopKTileKv,
                        {top_k_step(p, device_rates(device), plan->policy),
                         resident_blocks(p, plan->policy, device)}};
  const int64_t ratio = p.heads_q / p.heads_kv;
  const bool can_pack = ratio > 1 && p.s_q * ratio <= INT32_MAX - 1024;
  choose_cut(without_v(p), device, {&only, 1}, can_pack, plan);
  plan->workspace_bytes = static_cast<size_t>(top_lists_bytes(p, *plan));
  plan->threads = kernels::kSm80TopKThreads;
  plan->smem_bytes = smem_of(p, plan->policy);
  plan->most_smem = std::min(kernels::sm80_top_k_smem_bytes(plan->policy, kernels::kMaxTopK),
                             device.smem_per_block);
}

#if QKV_HAS_CUDA
kernels::Sm80TopKChoice top_k_choice(const Problem& p, const TopKPlan& plan) {
  return {kernel_type(p), plan.policy.max_dim, plan.policy.rules};
}

Status top_k_prepare(const Problem& p, const CudaRuntime& cuda, TopKPlan* plan) {
  QKV_RETURN_IF_ERROR(cuda.load("loading sm80_top_k", [&] {
    return kernels::prepare_sm80_top_k(top_k_choice(p, *plan), plan->most_smem);
  }));
  if (plan->schedule.splits == 1) return {};
  return cuda.load("loading top_k_combine",
                   [&] { return kernels::prepare_top_k_combine(kernel_type(p)); });
}

Status top_k_launch(const Problem& p, const TopKPlan& plan, const CudaRuntime& cuda,
                    const Run& run) {
  return cuda.queue(run, [&] {
    const kernels::ForwardArgs args = forward_args(p);
    const kernels::TopKArgs top = top_k_args(p);
    auto* of_splits = static_cast<kernels::RankedKey*>(run.workspace);
    const int launched = kernels::launch_sm80_top_k(top_k_choice(p, plan), args, top, plan.schedule,
                                                    of_splits, run.stream);
    if (launched != 0 || plan.schedule.splits == 1) return launched;
    return kernels::launch_top_k_combine(kernel_type(p), args, top, plan.schedule.splits, of_splits,
                                         run.stream);
  });
}
#else
constexpr auto top_k_prepare = prepare_absent<Problem, TopKPlan>;
constexpr auto top_k_launch = launch_absent<Problem, TopKPlan>;
#endif

}  // namespace

constexpr Kernel kSm80TopK =
    kernel_of<Problem, TopKPlan, top_k_decline, top_k_plan, top_k_prepare, top_k_launch>(
        "sm80_top_k", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
