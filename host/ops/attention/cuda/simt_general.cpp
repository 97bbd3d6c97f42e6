#include <algorithm>
#include <cstdint>

#include "host/core/kernel_tensor.h"
#include "host/core/overlap.h"
#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "kernels/attention/simt_general/launch.h"
#include "kernels/attention/simt_general/policy.h"
#include "kernels/core/simt_smem.h"

namespace qkv::host::attention {
namespace {

kernels::Selection selection_of(const Problem& p) {
  return static_cast<kernels::Selection>(p.selection);
}

int64_t general_slices(const Problem& p) {
  return kernels::simt_general_slices(selection_of(p), p.d_v);
}

std::string general_decline(const Problem& p, const DeviceInfo& device) {
  constexpr Takes kTakes{
      true, true, true, true,
      tensor_set({kMask, kBias, kAlibi, kAdditive, kLengths, kLse, kIndex, kWeights, kTopScores})};
  if (std::string reason = decline_options(p, kTakes); !reason.empty()) return reason;
  return decline_simt(p, device, kernels::kSimtGeneralTileQ, general_slices(p));
}

void general_plan(const Problem& p, const DeviceInfo&, TilePlan* plan) {
  plan_grid(p, kernels::kSimtGeneralTileQ, kernels::kSimtGeneralTileKv, general_slices(p), plan);
  plan->threads = kernels::kSimtGeneralThreads;
  plan->smem_bytes = static_cast<int32_t>(
      kernels::simt_smem_bytes(kernels::kSimtGeneralTileQ, kernels::kSimtGeneralTileKv));
  if (p.score == QKV_SCORE_ADDITIVE) plan->smem_bytes += kernels::kSimtGeneralWeightBytes;
  plan->smem_bytes +=
      kernels::simt_general_list_bytes(selection_of(p), static_cast<int32_t>(p.top_k));
}

#if QKV_HAS_CUDA
kernels::SimtGeneralChoice general_choice(const Problem& p) {
  return {kernel_type(p), static_cast<kernels::Score>(p.score), selection_of(p)};
}

Status general_prepare(const Problem& p, const CudaRuntime& cuda, TilePlan*) {
  return cuda.load("loading simt_general",
                   [&] { return kernels::prepare_simt_general(general_choice(p)); });
}

Status queue_general(const Problem& p, const TilePlan&, const CudaRuntime& cuda, const Run& run) {
  return cuda.queue(run, [&] {
    return kernels::launch_simt_general(general_choice(p), forward_args(p), top_k_args(p),
                                        run.stream);
  });
}
#else
constexpr auto general_prepare = prepare_absent<Problem, TilePlan>;
constexpr auto queue_general = launch_absent<Problem, TilePlan>;
#endif

// Every other kernel has read a tile's rows of Q when it writes these rows of O. This one reads
// them again: for the weights, and in the other blocks of a wide O.
Status general_launch(const Problem& p, const TilePlan& plan, const CudaRuntime& cuda,
                      const Run& run) {
  QKV_REQUIRE(
      !same_place(p.o, p.q) || (!p.weights.present() && general_slices(p) == 1),
      QKV_INVALID_OVERLAP, "o is in q's place, and simt_general ",
      p.weights.present()
          ? std::string("computes weights, for which it reads q after it has written o")
          : text("takes that up to ", kernels::kSimtGeneralSlice, " dims, here are ", p.d_v));
  return queue_general(p, plan, cuda, run);
}

}  // namespace

constexpr Kernel kSimtGeneral =
    kernel_of<Problem, TilePlan, general_decline, general_plan, general_prepare, general_launch>(
        "simt_general", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
