#include <algorithm>
#include <cstdint>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "kernels/policy.h"
#include "kernels/simt_forward/launch.h"

namespace qkv::host {
namespace {

std::string forward_decline(const Problem& p, const DeviceInfo& device) {
  if (p.score != QKV_SCORE_DOT) return "computes scaled dot scores only";
  if (p.selection != QKV_SELECT_SOFT) return "computes soft selection only";
  if (p.weights.present()) return "does not write attention weights";
  if (p.softcap > 0) return text("has no softcap, softcap is ", p.softcap);
  if (p.mask.present()) return "takes no mask tensor";
  if (p.bias.present()) return "takes no bias tensor";
  if (p.alibi_slopes.present()) return "takes no alibi_slopes";
  const int64_t widest = std::max(p.d_qk, p.d_v);
  if (widest > kernels::kSimtForwardMaxDim) {
    return text("takes dims up to ", kernels::kSimtForwardMaxDim, ", the widest here is ", widest);
  }
  return decline_simt(p, device, kernels::simt_forward_policy(static_cast<int32_t>(p.d_v)).tile_q,
                      1);
}

void forward_plan(const Problem& p, const DeviceInfo&, Plan* plan) {
  const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(p.d_v));
  plan_grid(p, policy.tile_q, policy.tile_kv, 1, plan);
  plan->threads = policy.threads;
  plan->smem_bytes = static_cast<int32_t>(kernels::simt_smem_bytes(policy.tile_q, policy.tile_kv));
}

#if QKV_HAS_CUDA
Status forward_prepare(const Problem& p, const CudaRuntime& cuda, Plan*) {
  return cuda.check(kernels::prepare_simt_forward(kernel_type(p), static_cast<int32_t>(p.d_v)),
                    "loading simt_forward");
}

int forward_launch(const Problem& p, const Plan&, void*, void* stream, Status*) {
  return kernels::launch_simt_forward(kernel_type(p), forward_args(p), stream);
}
#else
constexpr auto forward_prepare = prepare_absent;
constexpr auto forward_launch = launch_absent;
#endif

}  // namespace

const Kernel kSimtForward{"simt_forward", QKV_DEVICE_CUDA, forward_decline,
                          forward_plan,   forward_prepare, forward_launch};

}  // namespace qkv::host
