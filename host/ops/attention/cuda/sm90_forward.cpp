#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>

#include "host/core/plan.h"
#include "host/ops/attention/op.h"
#include "host/ops/attention/splits.h"
#include "kernels/attention/mask_summary/launch.h"
#include "kernels/attention/mask_summary/policy.h"
#include "kernels/attention/sm90_forward/launch.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/grid.h"
#include "kernels/core/mask_summary.h"
#include "kernels/core/softcap.h"
#include "kernels/core/tensor_map.h"

namespace qkv::host::attention {
namespace {

struct Sm90Plan : SplitPlan {
  bool fetch_tiles = false;   // by a counter in the workspace
  bool skips_hidden = false;  // blocks of keys that the mask hides, by a summary in the workspace

  std::string text() const override {
    return SplitPlan::text() +
           (skips_hidden
                ? text_line("skips", "blocks of keys that the mask hides from all rows of a tile")
                : "");
  }
#if QKV_HAS_SM90
  kernels::TensorMaps tma_maps;  // templates: of shapes and strides, without addresses
#endif
};

kernels::Sm90Variant variant_of(const Problem& p) {
  const bool rules = p.mask.present() || p.bias.present() || p.alibi_slopes.present() ||
                     (p.softcap > 0 && !has_fast_softcap(p));
  return kernels::sm90_variant(rules, p.softcap);
}

const kernels::Sm90Shape* shape_of(const Problem& p) {
  return kernels::sm90_shape(p.d_qk, p.d_v, variant_of(p));
}

std::string sm90_decline(const Problem& p, const DeviceInfo& device) {
  if (device.compute != 90) return text("needs sm_90, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  constexpr Takes kTakes{.softcap = true,
                         .tensors = tensor_set({kLengths, kLse, kMask, kBias, kAlibi})};
  std::string reason = decline_options(p, kTakes);
  if (!reason.empty()) return reason;
  if (!(p.scale > 0)) return text("needs a scale above 0, it is ", p.scale);
  const kernels::Sm90Shape& widest_shape = *std::rbegin(kernels::kSm90Shapes);
  reason = decline_dims(p, 8, widest_shape.d_qk);
  if (!reason.empty()) return reason;
  if (shape_of(p) == nullptr)
    return text("takes mask, bias, ALiBi and a softcap above ", kernels::kLargestFastSoftcap,
                " up to 192 dims of Q and 128 of V, here are ", p.d_qk, " and ", p.d_v);
  const kernels::Sm90Shape& shape = *shape_of(p);
  if (p.s_kv == 0) return "needs keys, there are none";
  reason = decline_maps(p);
  if (!reason.empty()) return reason;
  reason = decline_splits(p, shape.tile_kv);
  const int64_t splits = fixed_splits(p, shape.tile_kv);
  if (reason.empty()) reason = decline_grid(p, shape.tile_q(), splits);
  if (!reason.empty()) return reason;
  if (const int64_t tiles = schedule_of(p, shape.tile_q(), shape.tile_kv, 1).blocks() * splits;
      tiles > kernels::kSm90MaxTiles)
    return text("takes up to 2^30 tiles, here are ", tiles);
  return {};
}

// Where the parts of the workspace begin, each a multiple of 256 bytes: the splits' results, the
// counter, the summary.
size_t counter_at(const Problem& p, const Sm90Plan& plan) {
  return static_cast<size_t>(partial_bytes(p, plan));
}
size_t summary_at(const Problem& p, const Sm90Plan& plan) {
  return counter_at(p, plan) + (plan.fetch_tiles ? 256 : 0);
}

kernels::MaskSummary summary_of(const Problem& p, const Sm90Plan& plan) {
  return kernels::mask_summary_of(forward_args(p), plan.schedule);
}

// Whether to look first for blocks of keys that the mask hides from all of a tile's rows, where
// kernels/attention/mask_summary/policy.h says that it pays: by the problem's shape and the
// device, whatever the mask holds.
bool pays_to_summarise(const Problem& p, const DeviceInfo& device, const Sm90Plan& plan) {
  if (!p.mask.present()) return false;
  int64_t mask_rows = 1;
  for (size_t axis = 0; axis < 3; ++axis)
    if (p.mask.stride[axis] != 0) mask_rows *= p.mask.shape[axis];
  const int64_t tiles = int64_t{plan.schedule.tiles} * plan.schedule.sets;
  const kernels::MaskSummary summary = summary_of(p, plan);
  return mask_rows * kernels::kMaskSummaryShare <= tiles * plan.tile_q &&
         tiles * summary.blocks >= device.sm_count * kernels::kMaskSummaryBlocks &&
         summary.bytes() <= kernels::kMaxBlocks;
}

void sm90_plan(const Problem& p, const DeviceInfo& device, Sm90Plan* plan) {
  const kernels::Sm90Shape& shape = *shape_of(p);
  const double cycles = shape.cycles;
  const TileChoice only{shape.tile_q(), shape.tile_kv, {{cycles, cycles}, 1}};
  choose_cut(p, device, {&only, 1}, can_pack_boxes(p), plan);
  plan->blocks = std::min<int64_t>(plan->schedule.blocks(), device.sm_count);
  plan->threads = shape.threads();
  plan->smem_bytes = shape.smem_bytes();
  plan->skips_hidden = pays_to_summarise(p, device, *plan);
  // Tiles of unequal length are fetched as blocks get free; equal ones need no counter.
  plan->fetch_tiles =
      (p.windowed() || plan->skips_hidden) && plan->schedule.blocks() > plan->blocks;
  plan->workspace_bytes = summary_at(p, *plan);
  if (plan->skips_hidden)
    plan->workspace_bytes += static_cast<size_t>((summary_of(p, *plan).bytes() + 255) / 256 * 256);
}

#if QKV_HAS_SM90
Status sm90_prepare(const Problem& p, const CudaRuntime& cuda, Sm90Plan* plan) {
  const kernels::ForwardArgs args = forward_args(p);
  // First what makes the device's context: without one the driver encodes no maps.
  QKV_RETURN_IF_ERROR(cuda.load("loading sm90_forward", [&] {
    return kernels::prepare_sm90_forward(kernel_type(p), args.d_qk, args.d_v, variant_of(p));
  }));
  QKV_RETURN_IF_ERROR(cuda.load("loading sm90_forward's TMA maps", [&] {
    const kernels::BoxRows rows{kernels::kSm90Rows, shape_of(p)->tile_kv, kernels::kSm90WarpRows};
    return kernels::make_tensor_maps(kernel_type(p), args, rows,
                                     static_cast<int32_t>(plan->schedule.group.divisor),
                                     &plan->tma_maps);
  }));
  if (plan->skips_hidden)
    QKV_RETURN_IF_ERROR(
        cuda.load("loading mask_summary", [] { return kernels::prepare_mask_summary(); }));
  return load_combine(p, *plan, cuda);
}

Status sm90_launch(const Problem& p, const Sm90Plan& plan, const CudaRuntime& cuda,
                   const Run& run) {
  return cuda.queue(run, [&] {
    const kernels::ForwardArgs args = forward_args(p);
    kernels::Sm90Tiles tiles;
    tiles.schedule = plan.schedule;
    tiles.variant = variant_of(p);
    tiles.blocks = static_cast<int32_t>(plan.blocks);
    tiles.partials = partials_of(p, plan, run.workspace);
    auto* const workspace = static_cast<unsigned char*>(run.workspace);
    if (plan.fetch_tiles)
      tiles.next_tile = reinterpret_cast<int32_t*>(workspace + counter_at(p, plan));
    if (plan.skips_hidden) {
      tiles.summary = summary_of(p, plan);
      tiles.summary.visible = workspace + summary_at(p, plan);
      const int summarised = kernels::launch_mask_summary(args, plan.schedule, tiles.summary,
                                                          tiles.next_tile, run.stream);
      if (summarised != 0) return summarised;
    }
    const int launched =
        kernels::launch_sm90_forward(kernel_type(p), plan.tma_maps, args, tiles, run.stream);
    return combine(launched, p, plan, args, tiles.partials, run.stream);
  });
}
#else
constexpr auto sm90_prepare = prepare_absent<Problem, Sm90Plan>;
constexpr auto sm90_launch = launch_absent<Problem, Sm90Plan>;
#endif

}  // namespace

constexpr Kernel kSm90Forward =
    kernel_of<Problem, Sm90Plan, sm90_decline, sm90_plan, sm90_prepare, sm90_launch>(
        "sm90_forward", QKV_DEVICE_CUDA);

}  // namespace qkv::host::attention
