#include <algorithm>
#include <cstdint>

#include "host/core/plan.h"
#include "host/ops/attention/op.h"
#include "host/ops/attention/splits.h"
#include "kernels/attention/hard_combine/launch.h"
#include "kernels/attention/sm90_hard/launch.h"
#include "kernels/attention/sm90_hard/policy.h"
#include "kernels/core/best_key.h"
#include "kernels/core/hard_lse.h"
#include "kernels/core/tensor_map.h"

namespace qkv::host::attention {
namespace {

struct Sm90HardPlan : SplitPlan {
#if QKV_HAS_SM90
  kernels::TensorMaps tma_maps;  // templates: of shapes and strides, without addresses
#endif
};

// Query rows that go through the same keys together, at most.
int64_t rows_of_set(const Problem& p) {
  return p.s_q * (can_pack_boxes(p) ? p.heads_q / p.heads_kv : 1);
}

std::string hard_decline(const Problem& p, const DeviceInfo& device) {
  if (p.selection != QKV_SELECT_HARD) return "computes hard selection only";
  if (device.compute != 90) return text("needs sm_90, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  constexpr Takes kTakes{.hard = true, .tensors = tensor_set({kLengths, kLse, kIndex})};
  std::string reason = decline_options(p, kTakes);
  if (reason.empty()) reason = decline_selected_dims(p, 8, kernels::kSm90HardMaxDim);
  if (!reason.empty()) return reason;
  if (p.s_kv == 0) return "needs keys, there are none";
  // With a fixed split size a query's bits do not depend on those beside it, thus not on their
  // number.
  if (const int64_t rows = rows_of_set(p);
      rows < kernels::kSm90HardLeastRows && p.fixed_split_size == 0)
    return text("needs ", kernels::kSm90HardLeastRows, " query rows that share keys, here are ",
                rows);
  reason = decline_maps(p);
  if (reason.empty()) reason = decline_grid(p, kernels::kSm90HardTileQ, 1);
  if (!reason.empty()) return reason;
  if (const int64_t tiles =
          schedule_of(p, kernels::kSm90HardTileQ, kernels::kSm90HardTileKv, 1).blocks();
      tiles > kernels::kSm90HardMaxTiles)
    return text("takes up to 2^30 tiles, here are ", tiles);
  return {};
}

void hard_plan(const Problem& p, const DeviceInfo& device, Sm90HardPlan* plan) {
  const kernels::Sm90HardShape& shape = *kernels::sm90_hard_shape(p.d_qk);
  const double cycles = shape.cycles;
  const TileChoice only{kernels::kSm90HardTileQ, kernels::kSm90HardTileKv, {{cycles, cycles}, 1}};
  choose_cut(without_v(p), device, {&only, 1}, can_pack_boxes(p), plan);
  plan->blocks = std::min<int64_t>(plan->schedule.blocks(), device.sm_count);
  plan->threads = kernels::kSm90HardThreads;
  plan->smem_bytes = shape.smem_bytes();
  const int32_t splits = plan->schedule.splits;
  if (splits > 1)
    plan->workspace_bytes =
        static_cast<size_t>(kernels::best_keys_bytes(splits, p.batch * p.heads_q * p.s_q));
}

#if QKV_HAS_SM90
Status hard_prepare(const Problem& p, const CudaRuntime& cuda, Sm90HardPlan* plan) {
  const kernels::ForwardArgs args = forward_args(p);
  // First what makes the device's context: without one the driver encodes no maps.
  QKV_RETURN_IF_ERROR(cuda.load(
      "loading sm90_hard", [&] { return kernels::prepare_sm90_hard(kernel_type(p), args.d_qk); }));
  QKV_RETURN_IF_ERROR(cuda.load("loading sm90_hard's TMA maps", [&] {
    constexpr kernels::BoxRows kRows{kernels::kSm90HardRows, kernels::kSm90HardTileKv,
                                     kernels::kSm90HardWarpRows};
    return kernels::make_tensor_maps(kernel_type(p), args, kRows,
                                     static_cast<int32_t>(plan->schedule.group.divisor),
                                     &plan->tma_maps);
  }));
  if (plan->schedule.splits == 1) return {};
  return cuda.load("loading hard_combine", [] { return kernels::prepare_hard_combine(); });
}

Status hard_launch(const Problem& p, const Sm90HardPlan& plan, const CudaRuntime& cuda,
                   const Run& run) {
  return cuda.queue(run, [&] {
    const kernels::ForwardArgs args = forward_args(p);
    const kernels::Sm90HardTiles tiles{plan.schedule, static_cast<kernels::BestKey*>(run.workspace),
                                       static_cast<int32_t>(plan.blocks)};
    const int launched =
        kernels::launch_sm90_hard(kernel_type(p), plan.tma_maps, args, tiles, run.stream);
    if (launched != 0 || plan.schedule.splits == 1) return launched;
    return kernels::launch_hard_combine(args, static_cast<int32_t>(type_size(p.type)),
                                        kernels::hard_lse_factor(false, p.scale),
                                        plan.schedule.splits, tiles.of_splits, run.stream);
  });
}
#else
constexpr auto hard_prepare = prepare_absent<Problem, Sm90HardPlan>;
constexpr auto hard_launch = launch_absent<Problem, Sm90HardPlan>;
#endif

}  // namespace

constexpr Kernel kSm90Hard =
    kernel_of<Problem, Sm90HardPlan, hard_decline, hard_plan, hard_prepare, hard_launch>(
        "sm90_hard", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
