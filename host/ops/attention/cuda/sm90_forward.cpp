#include <algorithm>
#include <cstdint>
#include <memory>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "kernels/combine/launch.h"
#include "kernels/policy.h"
#include "kernels/sm90_forward/launch.h"

namespace qkv::host {
namespace {

// Why TMA cannot describe the tensor; empty: it can.
std::string decline_map(const char* name, const View& view) {
  std::string reason = decline_alignment(name, view);
  if (!reason.empty()) return reason;
  constexpr int64_t kMaxStride = int64_t{1} << 39;  // elements: below 2^40 bytes
  for (size_t axis = 0; axis < 3; ++axis) {
    if (view.shape[axis] > 1 && (view.stride[axis] < 1 || view.stride[axis] >= kMaxStride))
      return text("needs strides above 0 and below 2^39, ", name, ".stride[", axis, "] is ",
                  view.stride[axis]);
  }
  return {};
}

// Cycles of a block of keys: products at 2048 multiply-adds a cycle, softmax beside them (untimed).
constexpr double kStepCycles =
    2.0 * kernels::kSm90TileQ * kernels::kSm90TileKv * kernels::kSm90Dim / 2048;

kernels::TileSchedule schedule_of(const Problem& p, int32_t group) {
  return kernels::tile_schedule(kernels::kSm90TileQ, kernels::kSm90TileKv,
                                static_cast<int32_t>(p.batch), static_cast<int32_t>(p.heads_q),
                                static_cast<int32_t>(p.heads_kv), static_cast<int32_t>(p.s_q),
                                group);
}

// The heads of a group lie in one box of TMA if a warp's 16 rows hold whole queries.
bool can_pack(const Problem& p) {
  const int64_t ratio = p.heads_q / p.heads_kv;
  return ratio > 1 && ratio <= 16 && (ratio & (ratio - 1)) == 0 &&
         p.s_q * ratio <= INT32_MAX - 1024;
}

std::string sm90_decline(const Problem& p, const DeviceInfo& device) {
  if (device.compute != 90) return text("needs sm_90, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  if (p.score != QKV_SCORE_DOT) return "computes scaled dot scores only";
  if (p.selection != QKV_SELECT_SOFT) return "computes soft selection only";
  if (p.weights.present()) return "does not write attention weights";
  if (p.mask.present()) return "takes no mask tensor";
  if (p.bias.present()) return "takes no bias tensor";
  if (p.alibi_slopes.present()) return "takes no alibi_slopes";
  if (!(p.scale > 0)) return text("needs a scale above 0, it is ", p.scale);
  for (const int64_t dim : {p.d_qk, p.d_v}) {
    if (dim % 8 != 0 || dim > kernels::kSm90Dim)
      return text("takes dims that are multiples of 8 up to ", kernels::kSm90Dim, ", one here is ",
                  dim);
  }
  if (const int64_t widest = std::max(p.d_qk, p.d_v); widest <= kernels::kSm90Dim / 2)
    return text("computes ", kernels::kSm90Dim, " dims whatever is asked, the widest here is ",
                widest);
  if (p.s_kv == 0) return "needs keys, there are none";
  for (const Named& tensor : {Named{"q", p.q}, Named{"k", p.k}, Named{"v", p.v}, Named{"o", p.o}}) {
    std::string reason = decline_map(tensor.name, tensor.view);
    if (!reason.empty()) return reason;
  }
  std::string reason = decline_splits(p, kernels::kSm90TileKv);
  const int64_t splits = fixed_splits(p, kernels::kSm90TileKv);
  if (reason.empty()) reason = decline_grid(p, kernels::kSm90TileQ, splits);
  if (!reason.empty()) return reason;
  if (const int64_t tiles = schedule_of(p, 1).blocks() * splits; tiles > kernels::kSm90MaxTiles)
    return text("takes up to 2^30 tiles, here are ", tiles);
  return {};
}

int64_t partial_bytes(const Problem& p, const Plan& plan) {
  const int32_t splits = plan.schedule.splits;
  return splits == 1 ? 0 : kernels::partials_bytes(splits, p.batch * p.heads_q * p.s_q, p.d_v);
}

void sm90_plan(const Problem& p, const DeviceInfo& device, Plan* plan) {
  const Candidate candidate{{kStepCycles, kStepCycles}, 1};
  const auto ratio = static_cast<int32_t>(p.heads_q / p.heads_kv);
  Prediction best;
  for (const int32_t group : {1, ratio}) {
    if (group > 1 && !can_pack(p)) continue;
    auto schedule = schedule_of(p, group);
    const Prediction prediction = choose_splits(p, device, candidate, &schedule);
    if (best.cycles > 0 && prediction.cost() >= best.cost()) continue;
    best = prediction;
    schedule.section = sets_of_section(p, device, schedule);
    plan->schedule = schedule;
  }
  plan->predicted_cycles = best.cycles;
  plan->predicted_waves = best.waves;
  plan->tile_q = kernels::kSm90TileQ;
  plan->tile_kv = kernels::kSm90TileKv;
  plan->blocks = std::min<int64_t>(plan->schedule.blocks(), device.sm_count);
  plan->threads = kernels::kSm90Threads;
  plan->smem_bytes = kernels::kSm90SmemBytes;
  // Tiles of unequal length are fetched as blocks get free; equal ones need no counter.
  plan->fetch_tiles = p.windowed() && plan->schedule.blocks() > plan->blocks;
  plan->workspace_bytes =
      static_cast<size_t>(partial_bytes(p, *plan)) + (plan->fetch_tiles ? 256 : 0);
}

#if QKV_HAS_SM90
Status sm90_prepare(const Problem& p, const CudaRuntime& cuda, Plan* plan) {
  auto maps = std::make_shared<kernels::Sm90Maps>();
  QKV_RETURN_IF_ERROR(cuda.check(
      kernels::make_sm90_maps(kernel_type(p), forward_args(p),
                              static_cast<int32_t>(plan->schedule.group.divisor), maps.get()),
      "loading sm90_forward's TMA maps"));
  plan->tma_maps = std::move(maps);
  QKV_RETURN_IF_ERROR(cuda.check(kernels::prepare_sm90_forward(kernel_type(p), p.softcap > 0),
                                 "loading sm90_forward"));
  if (plan->schedule.splits == 1) return {};
  return cuda.check(kernels::prepare_combine(kernel_type(p)), "loading combine");
}

int sm90_launch(const Problem& p, const Plan& plan, void* workspace, void* stream, Status*) {
  const kernels::ForwardArgs args = forward_args(p);
  const int32_t splits = plan.schedule.splits;
  kernels::Sm90Tiles tiles;
  tiles.schedule = plan.schedule;
  tiles.blocks = static_cast<int32_t>(plan.blocks);
  if (splits > 1)
    tiles.partials = kernels::partials_in(workspace, splits, p.batch * p.heads_q * p.s_q, p.d_v);
  if (plan.fetch_tiles)
    tiles.next_tile =
        reinterpret_cast<int32_t*>(static_cast<unsigned char*>(workspace) + partial_bytes(p, plan));
  const int code =
      kernels::launch_sm90_forward(kernel_type(p), *plan.tma_maps, args, tiles, stream);
  if (code != 0 || splits == 1) return code;
  return kernels::launch_combine(kernel_type(p), args, splits, tiles.partials, stream);
}
#else
constexpr auto sm90_prepare = prepare_absent;
constexpr auto sm90_launch = launch_absent;
#endif

}  // namespace

const Kernel kSm90Forward{"sm90_forward", QKV_DEVICE_CUDA, sm90_decline,
                          sm90_plan,      sm90_prepare,    sm90_launch};

}  // namespace qkv::host
