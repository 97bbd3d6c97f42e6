#include <algorithm>
#include <cstdint>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "kernels/policy.h"
#include "kernels/simt_general/launch.h"

namespace qkv::host {
namespace {

int64_t general_slices(const Problem& p) {
  return kernels::simt_general_slices(p.selection == QKV_SELECT_HARD, p.d_v);
}

std::string general_decline(const Problem& p, const DeviceInfo& device) {
  return decline_simt(p, device, kernels::kSimtGeneralTileQ, general_slices(p));
}

void general_plan(const Problem& p, const DeviceInfo&, Plan* plan) {
  plan_grid(p, kernels::kSimtGeneralTileQ, kernels::kSimtGeneralTileKv, general_slices(p), plan);
  plan->threads = kernels::kSimtGeneralThreads;
  plan->smem_bytes = static_cast<int32_t>(
      kernels::simt_smem_bytes(kernels::kSimtGeneralTileQ, kernels::kSimtGeneralTileKv));
  if (p.score == QKV_SCORE_ADDITIVE) plan->smem_bytes += kernels::kSimtGeneralWeightBytes;
}

#if QKV_HAS_CUDA
kernels::SimtGeneralChoice general_choice(const Problem& p) {
  return {kernel_type(p), static_cast<kernels::Score>(p.score),
          static_cast<kernels::Selection>(p.selection)};
}

Status general_prepare(const Problem& p, const CudaRuntime& cuda, Plan*) {
  return cuda.check(kernels::prepare_simt_general(general_choice(p)), "loading simt_general");
}

int general_launch(const Problem& p, const Plan&, void*, void* stream, Status*) {
  return kernels::launch_simt_general(general_choice(p), forward_args(p), stream);
}
#else
constexpr auto general_prepare = prepare_absent;
constexpr auto general_launch = launch_absent;
#endif

}  // namespace

const Kernel kSimtGeneral{"simt_general", QKV_DEVICE_CUDA, general_decline,
                          general_plan,   general_prepare, general_launch};

}  // namespace qkv::host
