#include "host/ops/attention/cuda/common.h"

#include <algorithm>

#include "kernels/combine/launch.h"
#include "kernels/policy.h"

namespace qkv::host {

std::string decline_grid(const Problem& p, int32_t tile_q, int64_t per_tile) {
  if (std::max(p.s_q, p.s_kv) > INT32_MAX - 1024) {
    return text("takes up to 2^31 - 1025 rows, there are ", std::max(p.s_q, p.s_kv));
  }
  if (std::max({p.batch, p.heads_q, p.d_qk, p.d_v}) > INT32_MAX ||
      kernels::grid_blocks(tile_q, per_tile, static_cast<int32_t>(p.batch),
                           static_cast<int32_t>(p.heads_q),
                           static_cast<int32_t>(p.s_q)) > kernels::kMaxBlocks) {
    return "needs more than 2^31 - 1 blocks";
  }
  return {};
}

std::string decline_simt(const Problem& p, const DeviceInfo& device, int32_t tile_q,
                         int64_t per_tile) {
  if (device.compute < 75) return text("needs sm_75 or newer, the device is sm_", device.compute);
  return decline_grid(p, tile_q, per_tile);
}

std::string decline_alignment(const char* name, const View& view) {
  const int64_t elements = 16 / type_size(view.type);
  for (size_t axis = 0; axis < 3; ++axis) {
    if (view.stride[axis] % elements != 0)
      return text("needs strides that are multiples of ", elements, ", ", name, ".stride[", axis,
                  "] is ", view.stride[axis]);
  }
  if (reinterpret_cast<uintptr_t>(view.data) % 16 != 0)
    return text("needs 16-byte aligned tensors, ", name, ".data is not");
  return {};
}

// Keys of a split of the size asked for, in whole tiles.
int32_t split_keys(const Problem& p, int32_t tile_kv) {
  const int64_t tile = tile_kv;
  return static_cast<int32_t>((std::min(p.fixed_split_size, std::max(p.s_kv, tile)) + tile - 1) /
                              tile * tile);
}

int64_t fixed_splits(const Problem& p, int32_t tile_kv) {
  if (p.fixed_split_size == 0 || p.s_kv == 0) return 1;
  const int64_t keys = split_keys(p, tile_kv);
  return (p.s_kv + keys - 1) / keys;
}

// Sets of rows whose K and V together fill at most half of the L2 cache.
int32_t sets_of_section(const Problem& p, const DeviceInfo& device,
                        const kernels::TileSchedule& schedule) {
  const int64_t set = p.s_kv * (p.d_qk + p.d_v) * type_size(p.type);
  const int64_t fit = set == 0 ? schedule.sets : device.l2_bytes / 2 / set;
  const int64_t sharing = schedule.kv_ratio / static_cast<int32_t>(schedule.group.divisor);
  return static_cast<int32_t>(std::clamp<int64_t>(fit * sharing, 1, std::max(schedule.sets, 1)));
}

Prediction choose_splits(const Problem& p, const DeviceInfo& device, const Candidate& candidate,
                         kernels::TileSchedule* schedule) {
  if (p.fixed_split_size > 0) {
    schedule->splits = static_cast<int32_t>(fixed_splits(p, schedule->tile_kv));
    schedule->split_keys = split_keys(p, schedule->tile_kv);
    return predict(p, device, candidate, *schedule, tile_loads(p, *schedule));
  }
  const int64_t grid = kernels::kMaxBlocks / std::max<int64_t>(schedule->blocks(), 1);
  const bool can_combine = p.batch * p.heads_q * p.s_q <= kernels::kMaxBlocks;
  const Prediction prediction =
      best_splits(p, device, candidate, *schedule,
                  can_combine ? static_cast<int32_t>(std::min<int64_t>(grid, kModelSplits)) : 1);
  schedule->splits = prediction.splits;
  return prediction;
}

std::string decline_splits(const Problem& p, int32_t tile_kv) {
  const int64_t splits = fixed_splits(p, tile_kv);
  if (splits > kernels::kMaxSplits)
    return text("takes up to ", kernels::kMaxSplits, " splits, fixed_split_size ",
                p.fixed_split_size, " makes ", splits);
  if (splits > 1 && p.batch * p.heads_q * p.s_q > kernels::kMaxBlocks)
    return "has more than 2^31 - 1 rows to combine";
  return {};
}

void plan_grid(const Problem& p, int32_t tile_q, int32_t tile_kv, int64_t per_tile, Plan* plan) {
  plan->tile_q = tile_q;
  plan->tile_kv = tile_kv;
  plan->blocks = kernels::grid_blocks(tile_q, per_tile, static_cast<int32_t>(p.batch),
                                      static_cast<int32_t>(p.heads_q), static_cast<int32_t>(p.s_q));
}

kernels::Tensor kernel_tensor(const View& view) {
  return {view.data, view.stride[0], view.stride[1], view.stride[2]};
}

static kernels::PairTensor kernel_pairs(const View& view) {
  return {view.data, view.stride[0], view.stride[1], view.stride[2], view.stride[3]};
}

kernels::Type kernel_type(const Problem& p) { return static_cast<kernels::Type>(p.type); }

kernels::ForwardArgs forward_args(const Problem& p) {
  kernels::ForwardArgs args;
  args.q = kernel_tensor(p.q);
  args.k = kernel_tensor(p.k);
  args.v = kernel_tensor(p.v);
  args.o = kernel_tensor(p.o);
  args.lse = kernel_tensor(p.lse);
  args.index = kernel_tensor(p.index);
  args.weights = kernel_tensor(p.weights);
  args.mask = kernel_pairs(p.mask);
  args.bias = kernel_pairs(p.bias);
  args.alibi_slopes = kernel_tensor(p.alibi_slopes);
  args.additive_weight = kernel_tensor(p.additive_weight);
  args.index_i64 = p.index.type == QKV_TYPE_I64;
  args.weights_f32 = p.weights.type == QKV_TYPE_F32;
  args.bias_f32 = p.bias.type == QKV_TYPE_F32;
  args.weights_mode = static_cast<kernels::Weights>(p.weights_mode);
  args.kv_lengths = static_cast<const int32_t*>(p.kv_lengths.data);
  args.kv_lengths_stride = p.kv_lengths.stride[0];
  args.batch = static_cast<int32_t>(p.batch);
  args.heads_q = static_cast<int32_t>(p.heads_q);
  args.heads_kv = static_cast<int32_t>(p.heads_kv);
  args.s_q = static_cast<int32_t>(p.s_q);
  args.s_kv = static_cast<int32_t>(p.s_kv);
  args.d_qk = static_cast<int32_t>(p.d_qk);
  args.d_v = static_cast<int32_t>(p.d_v);
  args.scale = p.scale;
  args.softcap = p.softcap;
  args.bottom_right = p.alignment == QKV_ALIGN_BOTTOM_RIGHT;
  args.offset = p.explicit_offset;
  args.left = p.left;
  args.right = p.right;
  return args;
}

Status prepare_absent(const Problem&, const CudaRuntime&, Plan*) { return {}; }

int launch_absent(const Problem&, const Plan&, void*, void*, Status* status) {
  *status = Status(QKV_UNSUPPORTED_BUILD, "this build of qkv has no CUDA kernels");
  return 0;
}

}  // namespace qkv::host
