#include <cstdint>

#include "host/core/disable.h"
#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "host/ops/attention/wave_model.h"
#include "kernels/attention/simt_additive/launch.h"
#include "kernels/attention/simt_additive/policy.h"
#include "kernels/attention/sm80_additive/policy.h"

namespace qkv::host::attention {
namespace {

// Cycles that a multiprocessor takes for a pair of a query and a key where it has blocks enough,
// those of a tile's missing rows with it. By the series: its product and that of P V. By fractions:
// the instructions of 128 lanes as compiled, of which the clock of bench/cycles sees three issued
// in four cycles.
double cycles_by_series(const Problem& p, const DeviceInfo& device) {
  const auto dim = kernels::sm80_additive_policy(widest(p), has_rules(p)).max_dim;
  return static_cast<double>(int64_t{2} * kernels::kSeriesHarmonics * p.d_qk + dim) /
         device_rates(device).mma;
}

double cycles_by_fractions(const Problem& p) {
  constexpr int64_t kRows = kernels::kSimtAdditiveTileQ, kColumns = kernels::kSimtAdditiveColumns;
  const int64_t rows = (p.s_q + kRows - 1) / kRows * kRows;
  const int64_t columns = (p.d_v + kColumns - 1) / kColumns * kColumns;
  return (4.2 * static_cast<double>(p.d_qk) + 1.25 * static_cast<double>(columns)) / (0.75 * 128) *
         static_cast<double>(rows) / static_cast<double>(p.s_q);
}

// In 16-bit types, where tensor cores of sm_80 and later take the problem: whether they are so slow
// that fractions are faster. They cannot be where multiprocessors would be idle: keys are not
// split.
bool is_faster(const Problem& p, const DeviceInfo& device) {
  const int64_t tiles = (p.s_q + kernels::kSimtAdditiveTileQ - 1) / kernels::kSimtAdditiveTileQ;
  return p.fixed_split_size == 0 &&
         static_cast<double>(tiles) * static_cast<double>(p.heads_q) *
                 static_cast<double>(p.batch) >=
             2.0 * device.sm_count &&
         cycles_by_fractions(p) < cycles_by_series(p, device);
}

std::string rational_decline(const Problem& p, const DeviceInfo& device) {
  if (p.score != QKV_SCORE_ADDITIVE) return "computes additive scores only";
  constexpr Takes kTakes{.additive = true,
                         .softcap = true,
                         .tensors = tensor_set({kMask, kBias, kAlibi, kAdditive, kLengths, kLse})};
  if (std::string reason = decline_options(p, kTakes); !reason.empty()) return reason;
  if (p.d_v > kernels::kSimtAdditiveMaxDim)
    return text("takes d_v up to ", kernels::kSimtAdditiveMaxDim, ", here it is ", p.d_v);
  std::string reason = decline_simt(p, device, kernels::kSimtAdditiveTileQ, 1);
  if (reason.empty() && !disabled().has(kSm80Additive.name) &&
      kSm80Additive.decline(p, device).empty() && !is_faster(p, device))
    return text("takes longer than ", kSm80Additive.name, " here");
  return reason;
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
