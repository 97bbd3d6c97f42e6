#include <cstdint>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "kernels/attention/simt_additive/launch.h"
#include "kernels/attention/simt_additive/policy.h"

namespace qkv::host::attention {
namespace {

std::string rational_decline(const Problem& p, const DeviceInfo& device) {
  if (p.score != QKV_SCORE_ADDITIVE) return "computes additive scores only";
  if (p.type != QKV_TYPE_F32) return "computes in fp32 only";
  constexpr Takes kTakes{.additive = true,
                         .softcap = true,
                         .tensors = tensor_set({kMask, kBias, kAlibi, kAdditive, kLengths, kLse})};
  if (std::string reason = decline_options(p, kTakes); !reason.empty()) return reason;
  if (p.d_v > kernels::kSimtAdditiveMaxDim)
    return text("takes d_v up to ", kernels::kSimtAdditiveMaxDim, ", here it is ", p.d_v);
  return decline_simt(p, device, kernels::kSimtAdditiveTileQ, 1);
}

void rational_plan(const Problem& p, const DeviceInfo&, TilePlan* plan) {
  plan_grid(p, kernels::kSimtAdditiveTileQ, kernels::kSimtAdditiveTileKv, 1, plan);
  plan->threads = kernels::kSimtAdditiveThreads;
  plan->smem_bytes = kernels::simt_additive_smem_bytes();
}

#if QKV_HAS_CUDA
Status rational_prepare(const Problem& p, const CudaRuntime& cuda, TilePlan*) {
  return cuda.load("loading simt_additive",
                   [&] { return kernels::prepare_simt_additive(kernel_type(p)); });
}

Status rational_launch(const Problem& p, const TilePlan&, const CudaRuntime& cuda, const Run& run) {
  return cuda.queue(run, [&] {
    return kernels::launch_simt_additive(kernel_type(p), forward_args(p), run.stream);
  });
}
#else
constexpr auto rational_prepare = prepare_absent<Problem, TilePlan>;
constexpr auto rational_launch = launch_absent<Problem, TilePlan>;
#endif

}  // namespace

constexpr Kernel kSimtAdditive =
    kernel_of<Problem, TilePlan, rational_decline, rational_plan, rational_prepare,
              rational_launch>("simt_additive", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
