#include "host/cuda_kernels.h"

#include <algorithm>
#include <cstdint>

#include "kernels/merge/launch.h"
#include "kernels/policy.h"
#include "kernels/simt_forward/launch.h"
#include "kernels/simt_general/launch.h"
#include "kernels/sm80_forward/launch.h"

namespace qkv::host {
namespace {

// What no grid takes; `per_tile` blocks serve a tile of query rows.
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

void plan_grid(const Problem& p, int32_t tile_q, int32_t tile_kv, int64_t per_tile, Plan* plan) {
  plan->tile_q = tile_q;
  plan->tile_kv = tile_kv;
  plan->blocks = kernels::grid_blocks(tile_q, per_tile, static_cast<int32_t>(p.batch),
                                      static_cast<int32_t>(p.heads_q), static_cast<int32_t>(p.s_q));
}

// --- sm80_forward

bool has_rules(const Problem& p) {
  return p.softcap > 0 || p.mask.present() || p.bias.present() || p.alibi_slopes.present();
}

kernels::Sm80ForwardPolicy sm80_policy(const Problem& p) {
  return kernels::sm80_forward_policy(static_cast<int32_t>(std::max(p.d_qk, p.d_v)), has_rules(p));
}

// Why 16 bytes at a time cannot be moved between the tensor and shared memory; empty: they can.
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

std::string sm80_decline(const Problem& p, const DeviceInfo& device) {
  if (device.compute < 80) return text("needs sm_80 or newer, the device is sm_", device.compute);
  if (p.type == QKV_TYPE_F32) return "computes in fp16 and bf16 only";
  if (p.score != QKV_SCORE_DOT) return "computes scaled dot scores only";
  if (p.selection != QKV_SELECT_SOFT) return "computes soft selection only";
  if (p.weights.present()) return "does not write attention weights";
  for (const int64_t dim : {p.d_qk, p.d_v}) {
    if (dim % 8 != 0 || dim > kernels::kSm80ForwardMaxDim)
      return text("takes dims that are multiples of 8 up to ", kernels::kSm80ForwardMaxDim,
                  ", one here is ", dim);
  }
  for (const Named& tensor : {Named{"q", p.q}, Named{"k", p.k}, Named{"v", p.v}, Named{"o", p.o}}) {
    std::string reason = decline_alignment(tensor.name, tensor.view);
    if (!reason.empty()) return reason;
  }
  const auto smem = static_cast<int32_t>(kernels::sm80_forward_smem_bytes(sm80_policy(p)));
  if (smem > device.smem_per_block)
    return text("needs ", smem, " bytes of shared memory, a block has ", device.smem_per_block);
  return decline_grid(p, sm80_policy(p).tile_q, 1);
}

void sm80_plan(const Problem& p, const DeviceInfo&, Plan* plan) {
  const auto policy = sm80_policy(p);
  plan_grid(p, policy.tile_q, policy.tile_kv, 1, plan);
  plan->threads = kernels::kSm80Threads;
  plan->smem_bytes = static_cast<int32_t>(kernels::sm80_forward_smem_bytes(policy));
}

// --- simt_forward

std::string forward_decline(const Problem& p, const DeviceInfo& device) {
  if (p.score != QKV_SCORE_DOT) return "computes scaled dot scores only";
  if (p.selection != QKV_SELECT_SOFT) return "computes soft selection only";
  if (p.weights.present()) return "does not write attention weights";
  if (p.softcap > 0) return text("has no softcap, softcap is ", p.softcap);
  if (p.mask.present()) return "takes no mask tensor";
  if (p.bias.present()) return "takes no bias tensor";
  if (p.alibi_slopes.present()) return "takes no alibi_slopes";
  const int64_t widest = std::max(p.d_qk, p.d_v);
  if (widest > kernels::kSimtForwardMaxDim) {
    return text("takes dims up to ", kernels::kSimtForwardMaxDim, ", the widest here is ", widest);
  }
  return decline_simt(p, device, kernels::simt_forward_policy(static_cast<int32_t>(p.d_v)).tile_q,
                      1);
}

void forward_plan(const Problem& p, const DeviceInfo&, Plan* plan) {
  const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(p.d_v));
  plan_grid(p, policy.tile_q, policy.tile_kv, 1, plan);
  plan->threads = policy.threads;
  plan->smem_bytes = static_cast<int32_t>(kernels::simt_smem_bytes(policy.tile_q, policy.tile_kv));
}

// --- simt_general

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
kernels::Tensor kernel_tensor(const View& view) {
  return {view.data, view.stride[0], view.stride[1], view.stride[2]};
}

kernels::PairTensor kernel_pairs(const View& view) {
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

kernels::Sm80ForwardChoice sm80_choice(const Problem& p) {
  return {kernel_type(p), sm80_policy(p).max_dim, has_rules(p)};
}

Status sm80_prepare(const Problem& p, const CudaRuntime& cuda, Plan*) {
  return cuda.check(kernels::prepare_sm80_forward(sm80_choice(p)), "loading sm80_forward");
}

int sm80_launch(const Problem& p, const Plan&, void*, void* stream, Status*) {
  return kernels::launch_sm80_forward(sm80_choice(p), forward_args(p), stream);
}

Status forward_prepare(const Problem& p, const CudaRuntime& cuda, Plan*) {
  return cuda.check(kernels::prepare_simt_forward(kernel_type(p), static_cast<int32_t>(p.d_v)),
                    "loading simt_forward");
}

int forward_launch(const Problem& p, const Plan&, void*, void* stream, Status*) {
  return kernels::launch_simt_forward(kernel_type(p), forward_args(p), stream);
}

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
// A build without CUDA can still plan for any device, which is how plans are tested everywhere.
Status forward_prepare(const Problem&, const CudaRuntime&, Plan*) { return {}; }

int forward_launch(const Problem&, const Plan&, void*, void*, Status* status) {
  *status = Status(QKV_UNSUPPORTED_BUILD, "this build of qkv has no CUDA kernels");
  return 0;
}

constexpr auto sm80_prepare = forward_prepare;
constexpr auto sm80_launch = forward_launch;
constexpr auto general_prepare = forward_prepare;
constexpr auto general_launch = forward_launch;
#endif

}  // namespace

const Kernel kSm80Forward{"sm80_forward", QKV_DEVICE_CUDA, sm80_decline,
                          sm80_plan,      sm80_prepare,    sm80_launch};
const Kernel kSimtForward{"simt_forward", QKV_DEVICE_CUDA, forward_decline,
                          forward_plan,   forward_prepare, forward_launch};
const Kernel kSimtGeneral{"simt_general", QKV_DEVICE_CUDA, general_decline,
                          general_plan,   general_prepare, general_launch};

std::string decline_merge(const Merge& m) {
  if (std::max({m.batch, m.heads, m.seq, m.dim}) > INT32_MAX ||
      kernels::merge_blocks(m.batch, m.heads, m.seq) > kernels::kMaxBlocks) {
    return "needs more than 2^31 - 1 blocks";
  }
  return {};
}

#if QKV_HAS_CUDA
int launch_merge(const Merge& m, void* stream) {
  static_assert(kernels::kMergeMaxParts == QKV_MERGE_MAX_PARTS);
  kernels::MergeArgs args;
  for (size_t n = 0; n < static_cast<size_t>(m.parts); ++n) {
    args.o_parts[n] = kernel_tensor(m.o_parts[n]);
    args.lse_parts[n] = kernel_tensor(m.lse_parts[n]);
  }
  args.o = kernel_tensor(m.o);
  args.lse = kernel_tensor(m.lse);
  args.part_type = static_cast<kernels::Type>(m.o_parts[0].type);
  args.o_type = static_cast<kernels::Type>(m.o.type);
  args.parts = m.parts;
  args.batch = static_cast<int32_t>(m.batch);
  args.heads = static_cast<int32_t>(m.heads);
  args.seq = static_cast<int32_t>(m.seq);
  args.dim = static_cast<int32_t>(m.dim);
  return kernels::launch_merge(args, stream);
}
#endif

}  // namespace qkv::host
