#include "host/ops/attention/cuda/sm80_forward.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "host/ops/attention/op.h"
#include "kernels/attention/sm80_forward/launch.h"

namespace qkv::host::attention {
namespace {

// The policies that may run a problem. With a fixed split size the tile of keys, which decides the
// order of summation, must depend on nothing but dims and options: there is one policy then, the
// one whose 64 keys divide the sizes that people choose.
struct Policies {
  static constexpr size_t kMost = 2;
  std::array<kernels::Sm80ForwardPolicy, kMost> all{};
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
  constexpr Takes kTakes{.softcap = true,
                         .tensors = tensor_set({kMask, kBias, kAlibi, kLengths, kLse})};
  std::string reason = decline_options(p, kTakes);
  if (reason.empty()) reason = decline_dims(p, 8, kernels::kSm80ForwardMaxDim);
  if (reason.empty()) reason = decline_alignment(p);
  if (!reason.empty()) return reason;
  const Policies policies = sm80_policies(p);
  for (const kernels::Sm80ForwardPolicy& policy : policies.view()) {
    const auto smem = static_cast<int32_t>(kernels::sm80_forward_smem_bytes(policy));
    if (smem > device.smem_per_block)
      return text("needs ", smem, " bytes of shared memory, a block has ", device.smem_per_block);
    const int64_t splits = fixed_splits(p, policy.tile_kv);
    reason = decline_splits(p, policy.tile_kv);
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

void sm80_plan(const Problem& p, const DeviceInfo& device, Sm80Plan* plan) {
  const DeviceRates rates = device_rates(device);
  const Policies policies = sm80_policies(p);
  std::array<TileChoice, Policies::kMost> choices{};
  for (size_t n = 0; n < policies.count; ++n) {
    const kernels::Sm80ForwardPolicy& policy = policies.all[n];
    // Each of four warps reads its rows of Q, and all of K and V.
    const double smem = 2.0 * policy.max_dim * (policy.tile_q + 4 * 2 * policy.tile_kv);
    choices[n] = {policy.tile_q,
                  policy.tile_kv,
                  {mma_step(rates, policy.tile_q, policy.tile_kv, policy.stages, policy.max_dim,
                            smem, policy.variant == kernels::Sm80Variant::kRules),
                   resident_blocks(policy, device)}};
  }
  const int64_t ratio = p.heads_q / p.heads_kv;
  const bool can_pack = ratio > 1 && p.s_q * ratio <= INT32_MAX - 1024;
  const size_t chosen =
      choose_cut(p, device, std::span(choices).first(policies.count), can_pack, plan);
  plan->variant = policies.all[chosen].variant;
  plan->threads = kernels::kSm80ForwardThreads;
  plan->smem_bytes = static_cast<int32_t>(kernels::sm80_forward_smem_bytes(policies.all[chosen]));
}

#if QKV_HAS_CUDA
kernels::Sm80ForwardChoice sm80_choice(const Problem& p, const Sm80Plan& plan) {
  return {kernel_type(p), kernels::sm80_forward_policy(widest(p), plan.variant).max_dim,
          plan.variant};
}

Status sm80_prepare(const Problem& p, const CudaRuntime& cuda, Sm80Plan* plan) {
  QKV_RETURN_IF_ERROR(cuda.load("loading sm80_forward", [&] {
    return kernels::prepare_sm80_forward(sm80_choice(p, *plan));
  }));
  return load_combine(p, *plan, cuda);
}

Status sm80_launch(const Problem& p, const Sm80Plan& plan, const CudaRuntime& cuda,
                   const Run& run) {
  return cuda.queue(run, [&] {
    const kernels::ForwardArgs args = forward_args(p);
    const kernels::Partials partials = partials_of(p, plan, run.workspace);
    const int launched = kernels::launch_sm80_forward(sm80_choice(p, plan), args, plan.schedule,
                                                      partials, run.stream);
    return combine(launched, p, plan, args, partials, run.stream);
  });
}
#else
constexpr auto sm80_prepare = prepare_absent<Problem, Sm80Plan>;
constexpr auto sm80_launch = launch_absent<Problem, Sm80Plan>;
#endif

}  // namespace

constexpr Kernel kSm80Forward =
    kernel_of<Problem, Sm80Plan, sm80_decline, sm80_plan, sm80_prepare, sm80_launch>(
        "sm80_forward", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
