#include "host/ops/attention/cuda/common.h"

#include <algorithm>

#include "host/core/kernel_tensor.h"
#include "host/core/plan.h"
#include "host/ops/attention/splits.h"
#include "kernels/core/grid.h"

namespace qkv::host::attention {

// The kernels' enumerations are the C header's, number by number.
static_assert(static_cast<int>(kernels::Score::kDot) == QKV_SCORE_DOT);
static_assert(static_cast<int>(kernels::Score::kAdditive) == QKV_SCORE_ADDITIVE);
static_assert(static_cast<int>(kernels::Selection::kSoft) == QKV_SELECT_SOFT);
static_assert(static_cast<int>(kernels::Selection::kHard) == QKV_SELECT_HARD);
static_assert(static_cast<int>(kernels::Selection::kTopK) == QKV_SELECT_TOP_K);
static_assert(static_cast<int>(kernels::Weights::kScores) == QKV_WEIGHTS_SCORES);
static_assert(static_cast<int>(kernels::Weights::kSoftcapped) == QKV_WEIGHTS_SOFTCAPPED);
static_assert(static_cast<int>(kernels::Weights::kMasked) == QKV_WEIGHTS_MASKED);
static_assert(static_cast<int>(kernels::Weights::kProbabilities) == QKV_WEIGHTS_PROBABILITIES);

std::string TilePlan::text() const {
  return text_line("tiles", tile_q, " queries x ", tile_kv, " keys") +
         text_line("grid", blocks, " blocks of ", threads, " threads, ", smem_bytes,
                   " bytes of shared memory each");
}

std::string decline_options(const Problem& p, const Takes& takes) {
  if (p.score != QKV_SCORE_DOT && !takes.additive) return "computes scaled dot scores only";
  const bool selects = p.selection == QKV_SELECT_TOP_K ? takes.top_k : takes.hard;
  if (p.selection != QKV_SELECT_SOFT && !selects) return "computes soft selection only";
  const auto refused = [&](Use use) {
    for (size_t id = std::size(kRequired); id < kTensorCount; ++id) {
      const TensorRow& row = kTensors[id];
      if (row.use == use && (takes.tensors >> id & 1) == 0 && (p.*row.view).present())
        return row.refusal;
    }
    return "";
  };
  if (std::string reason = refused(Use::kOutput); !reason.empty()) return reason;
  if (p.softcap > 0 && !takes.softcap) return text("has no softcap, softcap is ", p.softcap);
  return refused(Use::kInput);
}

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
  std::string reason = decline_grid(p, tile_q, per_tile);
  return reason.empty() ? decline_instead_of_splits(p, device) : reason;
}

std::string decline_dims(const Problem& p, int64_t multiple, int64_t most) {
  for (const int64_t dim : {p.d_qk, p.d_v}) {
    if (dim % multiple != 0 || dim > most)
      return text("takes dims that are multiples of ", multiple, " up to ", most, ", one here is ",
                  dim);
  }
  return {};
}

std::string decline_selected_dims(const Problem& p, int64_t multiple, int64_t most) {
  if (p.d_qk % multiple != 0 || p.d_v % multiple != 0 || p.d_qk > most)
    return text("takes dims that are multiples of ", multiple, ", d_qk up to ", most,
                ", here they are ", p.d_qk, " and ", p.d_v);
  // kernels/core/selected_row.cuh counts a row's bytes in 32 bits.
  constexpr int64_t kMostBytes = INT32_MAX;
  if (p.d_v > kMostBytes / type_size(p.type))
    return text("takes rows of V of less than 2 GiB, d_v is ", p.d_v);
  return {};
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

std::string decline_alignment(const Problem& p) {
  for (const TensorId id : kRequired) {
    std::string reason = decline_alignment(kTensors[id].name, p.*kTensors[id].view);
    if (!reason.empty()) return reason;
  }
  return {};
}

std::string decline_maps(const Problem& p) {
  constexpr int64_t kMaxStride = int64_t{1} << 39;  // elements: below 2^40 bytes
  for (const TensorId id : kRequired) {
    const char* const name = kTensors[id].name;
    const View& view = p.*kTensors[id].view;
    std::string reason = decline_alignment(name, view);
    if (!reason.empty()) return reason;
    for (size_t axis = 0; axis < 3; ++axis) {
      if (view.shape[axis] > 1 && (view.stride[axis] < 1 || view.stride[axis] >= kMaxStride))
        return text("needs strides above 0 and below 2^39, ", name, ".stride[", axis, "] is ",
                    view.stride[axis]);
    }
  }
  return {};
}

bool has_rules(const Problem& p) {
  return p.softcap > 0 || p.mask.present() || p.bias.present() || p.alibi_slopes.present();
}

int32_t widest(const Problem& p) { return static_cast<int32_t>(std::max(p.d_qk, p.d_v)); }

void plan_grid(const Problem& p, int32_t tile_q, int32_t tile_kv, int64_t per_tile,
               TilePlan* plan) {
  plan->tile_q = tile_q;
  plan->tile_kv = tile_kv;
  plan->blocks = kernels::grid_blocks(tile_q, per_tile, static_cast<int32_t>(p.batch),
                                      static_cast<int32_t>(p.heads_q), static_cast<int32_t>(p.s_q));
}

kernels::Type kernel_type(const Problem& p) { return host::kernel_type(p.type); }

static kernels::PairTensor kernel_pairs(const View& view) {
  return {view.data, view.stride[0], view.stride[1], view.stride[2], view.stride[3]};
}

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
  args.kv_lengths = p.kv_lengths.data;
  args.kv_lengths_i64 = p.kv_lengths.type == QKV_TYPE_I64;
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

kernels::TopKArgs top_k_args(const Problem& p) {
  return {static_cast<int32_t>(p.top_k), kernel_tensor(p.top_scores)};
}

}  // namespace qkv::host::attention
