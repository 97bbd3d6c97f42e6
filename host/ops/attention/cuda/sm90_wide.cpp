#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "host/core/plan.h"
#include "host/ops/attention/op.h"
#include "host/ops/attention/splits.h"
#include "kernels/attention/sm90_wide/launch.h"
#include "kernels/attention/sm90_wide/policy.h"
#include "kernels/core/grid.h"
#include "kernels/core/softcap.h"
#include "kernels/core/tensor_map.h"

namespace qkv::host::attention {
namespace {

struct WidePlan : SplitPlan {
  int32_t cluster = 1;  // thread blocks that share K and V
#if QKV_HAS_SM90
  kernels::TensorMaps tma_maps;  // templates: of shapes and strides, without addresses
#endif

  std::string text() const override {
    if (cluster == 1) return SplitPlan::text();
    return SplitPlan::text() +
           text_line("clusters", "of ", cluster, " blocks, each copies a part of K and V for all");
  }
};

// Dims that fit other kernels' tiles on this device.
constexpr int32_t kNarrow = 256;

int64_t panels(int64_t dim) {
  return (dim + kernels::kSm90WidePanel - 1) / kernels::kSm90WidePanel;
}

// Cycles of a block of keys (estimate): the longest of the products at 2048 multiply-adds a cycle,
// what tensor cores read of shared memory and TMA writes there, and the cluster's part of K and V
// from the L2 cache. Softmax and the other products stand beside each other.
double step_cycles(const Problem& p, int32_t cluster) {
  using namespace kernels;
  constexpr double kKeys = kSm90WideTileKv;
  const auto qk = static_cast<double>(panels(p.d_qk) * kSm90WidePanel);
  const auto v = static_cast<double>(panels(p.d_v) * kSm90WidePanel);
  const double products = kSm90WideRows * kKeys * (qk + v) / 2048;
  const double copied = 2 * kKeys * (qk + v);
  const double halves = p.d_v > kSm90WideDim / 2 ? 2 : 1;  // of O: each reads P
  const double read = 2 * (qk * (kKeys + kSm90WideRows) + kKeys * (v + halves * kSm90WideRows));
  return std::max({products, (read + copied) / kSmemBytes, copied / cluster / kL2Bytes});
}

std::string wide_decline(const Problem& p, const DeviceInfo& device) {
  if (device.compute != 90) return text("needs sm_90, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  constexpr Takes kTakes{.softcap = true, .tensors = tensor_set({kLengths, kLse})};
  std::string reason = decline_options(p, kTakes);
  if (!reason.empty()) return reason;
  if (!(p.scale > 0)) return text("needs a scale above 0, it is ", p.scale);
  if (p.softcap > kernels::kLargestFastSoftcap)
    return text("takes a softcap up to ", kernels::kLargestFastSoftcap, ", it is ", p.softcap);
  if (p.softcap > 0 && !has_fast_softcap(p))
    return text("takes scale / softcap up to 2^125, it is ", p.scale / p.softcap);
  reason = decline_dims(p, 8, kernels::kSm90WideDim);
  if (!reason.empty()) return reason;
  if (const int32_t dim = widest(p); dim <= kNarrow)
    return text("is for head dims above ", kNarrow, ", the widest here is ", dim);
  if (p.s_kv == 0) return "needs keys, there are none";
  reason = decline_maps(p);
  if (!reason.empty()) return reason;
  reason = decline_splits(p, kernels::kSm90WideTileKv);
  // A cluster takes up to as many more blocks where a set's last one is not full.
  const int64_t splits = fixed_splits(p, kernels::kSm90WideTileKv);
  if (reason.empty())
    reason = decline_grid(p, kernels::kSm90WideRows, splits * kernels::kSm90WideMostCluster);
  return reason;
}

void wide_plan(const Problem& p, const DeviceInfo& device, WidePlan* plan) {
  std::array<TileChoice, 2> choices{};
  size_t count = 0;
  // Two tiles that share K and V, if there are two.
  const int64_t rows = p.s_q * (can_pack_boxes(p) ? p.heads_q / p.heads_kv : 1);
  for (const int32_t cluster : {kernels::kSm90WideMostCluster, 1}) {
    if (cluster > 1 && (device.sm_count < cluster || rows <= kernels::kSm90WideRows)) continue;
    const double cycles = step_cycles(p, cluster);
    choices[count++] = {
        kernels::kSm90WideRows * cluster, kernels::kSm90WideTileKv, {{cycles, cycles}, 1, cluster}};
  }
  choose_cut(p, device, std::span(choices).first(count), can_pack_boxes(p), plan);
  plan->cluster = plan->tile_q / kernels::kSm90WideRows;
  plan->blocks *= plan->cluster;
  plan->threads = kernels::kSm90WideThreads;
  plan->smem_bytes = kernels::kSm90WideSmemBytes;
}

#if QKV_HAS_SM90
Status wide_prepare(const Problem& p, const CudaRuntime& cuda, WidePlan* plan) {
  // First what makes the device's context: without one the driver encodes no maps.
  QKV_RETURN_IF_ERROR(cuda.load("loading sm90_wide", [&] {
    return kernels::prepare_sm90_wide(kernel_type(p), p.softcap > 0);
  }));
  QKV_RETURN_IF_ERROR(cuda.load("loading sm90_wide's TMA maps", [&] {
    constexpr kernels::BoxRows kRows{kernels::kSm90WideRows, kernels::kSm90WideBoxKeys,
                                     kernels::kSm90WideWarpRows};
    return kernels::make_tensor_maps(kernel_type(p), forward_args(p), kRows,
                                     static_cast<int32_t>(plan->schedule.group.divisor),
                                     &plan->tma_maps);
  }));
  return load_combine(p, *plan, cuda);
}

Status wide_launch(const Problem& p, const WidePlan& plan, const CudaRuntime& cuda,
                   const Run& run) {
  return cuda.queue(run, [&] {
    const kernels::ForwardArgs args = forward_args(p);
    const kernels::Sm90WideTiles tiles{plan.schedule, partials_of(p, plan, run.workspace),
                                       plan.cluster};
    const int launched =
        kernels::launch_sm90_wide(kernel_type(p), plan.tma_maps, args, tiles, run.stream);
    return combine(launched, p, plan, args, tiles.partials, run.stream);
  });
}
#else
constexpr auto wide_prepare = prepare_absent<Problem, WidePlan>;
constexpr auto wide_launch = launch_absent<Problem, WidePlan>;
#endif

}  // namespace

constexpr Kernel kSm90Wide =
    kernel_of<Problem, WidePlan, wide_decline, wide_plan, wide_prepare, wide_launch>(
        "sm90_wide", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
