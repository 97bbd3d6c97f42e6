#include "kernels/sm80_tf32x3/launch.h"

#include <algorithm>
#include <cstdint>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "kernels/policy.h"

namespace qkv::host {
namespace {

bool has_rules(const Problem& p) {
  return p.softcap > 0 || p.mask.present() || p.bias.present() || p.alibi_slopes.present();
}

kernels::Sm80Tf32x3Policy tf32x3_policy(const Problem& p) {
  return kernels::sm80_tf32x3_policy(static_cast<int32_t>(std::max(p.d_qk, p.d_v)), has_rules(p));
}

std::string tf32x3_decline(const Problem& p, const DeviceInfo& device) {
  if (p.type != QKV_TYPE_F32) return "computes in fp32 only";
  // Elsewhere three products in tf32 take longer than one in fp32: see policy.h.
  if (device.compute != 80 && device.compute != 90)
    return text("gains on sm_80 and sm_90 only, the device is sm_", device.compute);
  if (p.score != QKV_SCORE_DOT) return "computes scaled dot scores only";
  if (p.selection != QKV_SELECT_SOFT) return "computes soft selection only";
  if (p.weights.present()) return "does not write attention weights";
  for (const int64_t dim : {p.d_qk, p.d_v}) {
    if (dim % 4 != 0 || dim > kernels::kSm80Tf32x3MaxDim)
      return text("takes dims that are multiples of 4 up to ", kernels::kSm80Tf32x3MaxDim,
                  ", one here is ", dim);
  }
  // The kernel computes padded dims, at most 1.5 times as fast as simt_forward does given ones.
  if (const int64_t padded = tf32x3_policy(p).max_dim; 3 * (p.d_qk + p.d_v) < 4 * padded)
    return text("gains where the dims fill two thirds of ", padded, ", here they are ", p.d_qk,
                " and ", p.d_v);
  for (const Named& tensor : {Named{"q", p.q}, Named{"k", p.k}, Named{"v", p.v}, Named{"o", p.o}}) {
    std::string reason = decline_alignment(tensor.name, tensor.view);
    if (!reason.empty()) return reason;
  }
  return decline_grid(p, kernels::kSm80Tf32x3TileQ, 1);
}

void tf32x3_plan(const Problem& p, const DeviceInfo&, Plan* plan) {
  const auto policy = tf32x3_policy(p);
  plan_grid(p, kernels::kSm80Tf32x3TileQ, policy.tile_kv, 1, plan);
  plan->threads = kernels::kSm80Threads;
  plan->smem_bytes = static_cast<int32_t>(kernels::sm80_tf32x3_smem_bytes(policy));
}

#if QKV_HAS_CUDA
kernels::Sm80Tf32x3Choice tf32x3_choice(const Problem& p) {
  return {tf32x3_policy(p).max_dim, has_rules(p)};
}

Status tf32x3_prepare(const Problem& p, const CudaRuntime& cuda, Plan*) {
  return cuda.check(kernels::prepare_sm80_tf32x3(tf32x3_choice(p)), "loading sm80_tf32x3");
}

int tf32x3_launch(const Problem& p, const Plan&, void*, void* stream, Status*) {
  return kernels::launch_sm80_tf32x3(tf32x3_choice(p), forward_args(p), stream);
}
#else
constexpr auto tf32x3_prepare = prepare_absent;
constexpr auto tf32x3_launch = launch_absent;
#endif

}  // namespace

const Kernel kSm80Tf32x3{"sm80_tf32x3", QKV_DEVICE_CUDA, tf32x3_decline,
                         tf32x3_plan,   tf32x3_prepare,  tf32x3_launch};

}  // namespace qkv::host
