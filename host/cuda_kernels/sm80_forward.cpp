#include <algorithm>
#include <cstdint>

#include "host/cuda_kernels.h"
#include "host/cuda_kernels/common.h"
#include "kernels/policy.h"
#include "kernels/sm80_forward/launch.h"

namespace qkv::host {
namespace {

bool has_rules(const Problem& p) {
  return p.softcap > 0 || p.mask.present() || p.bias.present() || p.alibi_slopes.present();
}

kernels::Sm80ForwardPolicy sm80_policy(const Problem& p) {
  return kernels::sm80_forward_policy(static_cast<int32_t>(std::max(p.d_qk, p.d_v)), has_rules(p));
}

std::string sm80_decline(const Problem& p, const DeviceInfo& device) {
  if (device.compute < 80) return text("needs sm_80 or newer, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  if (p.score != QKV_SCORE_DOT) return "computes scaled dot scores only";
  if (p.selection != QKV_SELECT_SOFT) return "computes soft selection only";
  if (p.weights.present()) return "does not write attention weights";
  for (const int64_t dim : {p.d_qk, p.d_v}) {
    if (dim % 8 != 0 || dim > kernels::kSm80ForwardMaxDim)
      return text("takes dims that are multiples of 8 up to ", kernels::kSm80ForwardMaxDim,
                  ", one here is ", dim);
  }
  for (const Named& tensor : {Named{"q", p.q}, Named{"k", p.k}, Named{"v", p.v}, Named{"o", p.o}}) {
    std::string reason = decline_alignment(tensor.name, tensor.view);
    if (!reason.empty()) return reason;
  }
  const auto smem = static_cast<int32_t>(kernels::sm80_forward_smem_bytes(sm80_policy(p)));
  if (smem > device.smem_per_block)
    return text("needs ", smem, " bytes of shared memory, a block has ", device.smem_per_block);
  return decline_grid(p, sm80_policy(p).tile_q, 1);
}

void sm80_plan(const Problem& p, const DeviceInfo&, Plan* plan) {
  const auto policy = sm80_policy(p);
  plan_grid(p, policy.tile_q, policy.tile_kv, 1, plan);
  plan->threads = kernels::kSm80Threads;
  plan->smem_bytes = static_cast<int32_t>(kernels::sm80_forward_smem_bytes(policy));
}

#if QKV_HAS_CUDA
kernels::Sm80ForwardChoice sm80_choice(const Problem& p) {
  return {kernel_type(p), sm80_policy(p).max_dim, has_rules(p)};
}

Status sm80_prepare(const Problem& p, const CudaRuntime& cuda, Plan*) {
  return cuda.check(kernels::prepare_sm80_forward(sm80_choice(p)), "loading sm80_forward");
}

int sm80_launch(const Problem& p, const Plan&, void*, void* stream, Status*) {
  return kernels::launch_sm80_forward(sm80_choice(p), forward_args(p), stream);
}
#else
constexpr auto sm80_prepare = prepare_absent;
constexpr auto sm80_launch = launch_absent;
#endif

}  // namespace

const Kernel kSm80Forward{"sm80_forward", QKV_DEVICE_CUDA, sm80_decline,
                          sm80_plan,      sm80_prepare,    sm80_launch};

}  // namespace qkv::host
