#include "kernels/attention/sm80_tf32x3/launch.h"

#include <algorithm>
#include <cstdint>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "kernels/attention/sm80_tf32x3/policy.h"

namespace qkv::host::attention {
namespace {

kernels::Sm80Tf32x3Policy tf32x3_policy(const Problem& p) {
  return kernels::sm80_tf32x3_policy(widest(p), has_rules(p));
}

std::string tf32x3_decline(const Problem& p, const DeviceInfo& device) {
  if (p.type != QKV_TYPE_F32) return "computes in fp32 only";
  // Elsewhere three products in tf32 take longer than one in fp32: see policy.h.
  if (device.compute != 80 && device.compute != 90)
    return text("gains on sm_80 and sm_90 only, the device is sm_", device.compute);
  constexpr Takes kTakes{.softcap = true,
                         .tensors = tensor_set({kMask, kBias, kAlibi, kLengths, kLse})};
  std::string reason = decline_options(p, kTakes);
  if (reason.empty()) reason = decline_dims(p, 4, kernels::kSm80Tf32x3MaxDim);
  if (!reason.empty()) return reason;
  // The kernel computes padded dims, at most 1.5 times as fast as simt_forward does given ones.
  if (const int64_t padded = tf32x3_policy(p).max_dim; 3 * (p.d_qk + p.d_v) < 4 * padded)
    return text("gains where the dims fill two thirds of ", padded, ", here they are ", p.d_qk,
                " and ", p.d_v);
  reason = decline_alignment(p);
  return reason.empty() ? decline_grid(p, kernels::kSm80Tf32x3TileQ, 1) : reason;
}

void tf32x3_plan(const Problem& p, const DeviceInfo&, TilePlan* plan) {
  const auto policy = tf32x3_policy(p);
  plan_grid(p, kernels::kSm80Tf32x3TileQ, policy.tile_kv, 1, plan);
  plan->threads = kernels::kSm80Tf32x3Threads;
  plan->smem_bytes = static_cast<int32_t>(kernels::sm80_tf32x3_smem_bytes(policy));
}

#if QKV_HAS_CUDA
kernels::Sm80Tf32x3Choice tf32x3_choice(const Problem& p) {
  return {tf32x3_policy(p).max_dim, has_rules(p)};
}

Status tf32x3_prepare(const Problem& p, const CudaRuntime& cuda, TilePlan*) {
  return cuda.load("loading sm80_tf32x3",
                   [&] { return kernels::prepare_sm80_tf32x3(tf32x3_choice(p)); });
}

Status tf32x3_launch(const Problem& p, const TilePlan&, const CudaRuntime& cuda, const Run& run) {
  return cuda.queue(run, [&] {
    return kernels::launch_sm80_tf32x3(tf32x3_choice(p), forward_args(p), run.stream);
  });
}
#else
constexpr auto tf32x3_prepare = prepare_absent<Problem, TilePlan>;
constexpr auto tf32x3_launch = launch_absent<Problem, TilePlan>;
#endif

}  // namespace

constexpr Kernel kSm80Tf32x3 =
    kernel_of<Problem, TilePlan, tf32x3_decline, tf32x3_plan, tf32x3_prepare, tf32x3_launch>(
        "sm80_tf32x3", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
