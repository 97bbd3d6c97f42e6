// The list of kernels, best first: what each declines and how it is planned, prepared and launched.
#include <algorithm>
#include <array>
#include <cstdint>

#include "host/plan.h"
#include "kernels/policy.h"
#include "kernels/simt_forward/launch.h"

namespace qkv::host {
namespace {

// --- cpu_forward: the whole contract on host memory
// ------------------------------------------------------------------

std::string cpu_decline(const Problem&, const DeviceInfo&) { return {}; }

void cpu_plan(const Problem& p, const DeviceInfo& device, Plan* plan) {
  plan->cpu = cpu::select_policy(p, device.threads);
  plan->workspace_bytes = plan->cpu.workspace_bytes;
}

Status cpu_prepare(const Problem& p, const CudaRuntime&, Plan* plan) {
  return cpu::prepare(p, plan->cpu, &plan->products);
}

int cpu_launch(const Problem& p, const Plan& plan, void* workspace, void*, Status* status) {
  *status = check_lengths(p);
  if (status->ok()) *status = cpu::run(p, plan.cpu, *plan.products, workspace);
  return 0;
}

constexpr Kernel kCpuForward{"cpu_forward", QKV_DEVICE_CPU, cpu_decline,
                             cpu_plan,      cpu_prepare,    cpu_launch};

// --- simt_forward: any CUDA GPU from sm_75
// ---------------------------------------------------------------------------

std::string simt_decline(const Problem& p, const DeviceInfo& device) {
  if (device.compute < 75) return text("needs sm_75 or newer, the device is sm_", device.compute);
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
  if (std::max(p.s_q, p.s_kv) > INT32_MAX - 1024) {
    return text("takes up to 2^31 - 1025 rows, there are ", std::max(p.s_q, p.s_kv));
  }
  const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(p.d_v));
  if (std::max(p.batch, p.heads_q) > INT32_MAX ||
      kernels::simt_forward_blocks(policy, static_cast<int32_t>(p.batch),
                                   static_cast<int32_t>(p.heads_q),
                                   static_cast<int32_t>(p.s_q)) > kernels::kMaxBlocks) {
    return "needs more than 2^31 - 1 blocks";
  }
  return {};
}

void simt_plan(const Problem& p, const DeviceInfo&, Plan* plan) {
  const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(p.d_v));
  plan->tile_q = policy.tile_q;
  plan->tile_kv = policy.tile_kv;
  plan->threads = policy.threads;
  plan->blocks =
      kernels::simt_forward_blocks(policy, static_cast<int32_t>(p.batch),
                                   static_cast<int32_t>(p.heads_q), static_cast<int32_t>(p.s_q));
  plan->smem_bytes = static_cast<int32_t>(kernels::simt_forward_smem_bytes(policy));
}

#if QKV_HAS_CUDA
kernels::Tensor kernel_tensor(const View& view) {
  return {view.data, view.stride[0], view.stride[1], view.stride[2]};
}

kernels::ForwardArgs forward_args(const Problem& p) {
  kernels::ForwardArgs args;
  args.q = kernel_tensor(p.q);
  args.k = kernel_tensor(p.k);
  args.v = kernel_tensor(p.v);
  args.o = kernel_tensor(p.o);
  args.lse = kernel_tensor(p.lse);
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
  args.bottom_right = p.alignment == QKV_ALIGN_BOTTOM_RIGHT;
  args.offset = p.explicit_offset;
  args.left = p.left;
  args.right = p.right;
  return args;
}

Status simt_prepare(const Problem& p, const CudaRuntime& cuda, Plan*) {
  return cuda.check(kernels::prepare_simt_forward(static_cast<kernels::Type>(p.type),
                                                  static_cast<int32_t>(p.d_v)),
                    "loading simt_forward");
}

int simt_launch(const Problem& p, const Plan&, void*, void* stream, Status*) {
  return kernels::launch_simt_forward(static_cast<kernels::Type>(p.type), forward_args(p), stream);
}
#else
// A build without CUDA can still plan for any device, which is how plans are tested everywhere.
Status simt_prepare(const Problem&, const CudaRuntime&, Plan*) { return {}; }

int simt_launch(const Problem&, const Plan&, void*, void*, Status* status) {
  *status = Status(QKV_UNSUPPORTED_BUILD, "this build of qkv has no CUDA kernels");
  return 0;
}
#endif

constexpr Kernel kSimtForward{"simt_forward", QKV_DEVICE_CUDA, simt_decline,
                              simt_plan,      simt_prepare,    simt_launch};

constexpr std::array<const Kernel*, 2> kKernels{&kCpuForward, &kSimtForward};

}  // namespace

std::span<const Kernel* const> kernels() { return kKernels; }

}  // namespace qkv::host
