#include <algorithm>
#include <cstdint>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "kernels/attention/simt_forward/launch.h"
#include "kernels/attention/simt_forward/policy.h"
#include "kernels/core/simt_smem.h"

namespace qkv::host::attention {
namespace {

std::string forward_decline(const Problem& p, const DeviceInfo& device) {
  constexpr Takes kTakes{.tensors = tensor_set({kLengths, kLse})};
  if (std::string reason = decline_options(p, kTakes); !reason.empty()) return reason;
  if (const int64_t dim = std::max(p.d_qk, p.d_v); dim > kernels::kSimtForwardMaxDim)
    return text("takes dims up to ", kernels::kSimtForwardMaxDim, ", the widest here is ", dim);
  return decline_simt(p, device, kernels::simt_forward_policy(static_cast<int32_t>(p.d_v)).tile_q,
                      1);
}

void forward_plan(const Problem& p, const DeviceInfo&, TilePlan* plan) {
  const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(p.d_v));
  plan_grid(p, policy.tile_q, policy.tile_kv, 1, plan);
  plan->threads = policy.threads;
  plan->smem_bytes = static_cast<int32_t>(kernels::simt_smem_bytes(policy.tile_q, policy.tile_kv));
}

#if QKV_HAS_CUDA
Status forward_prepare(const Problem& p, const CudaRuntime& cuda, TilePlan*) {
  return cuda.load("loading simt_forward", [&] {
    return kernels::prepare_simt_forward(kernel_type(p), static_cast<int32_t>(p.d_v));
  });
}

Status forward_launch(const Problem& p, const TilePlan&, const CudaRuntime& cuda, const Run& run) {
  return cuda.queue(run, [&] {
    return kernels::launch_simt_forward(kernel_type(p), forward_args(p), run.stream);
  });
}
#else
constexpr auto forward_prepare = prepare_absent<Problem, TilePlan>;
constexpr auto forward_launch = launch_absent<Problem, TilePlan>;
#endif

}  // namespace

constexpr Kernel kSimtForward =
    kernel_of<Problem, TilePlan, forward_decline, forward_plan, forward_prepare, forward_launch>(
        "simt_forward", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
