// merge: a warp for each row, on any CUDA device.
#include "kernels/merge/merge/launch.h"

#include <algorithm>
#include <cstdint>

#include "host/core/kernel_tensor.h"
#include "host/core/plan.h"
#include "host/ops/merge/op.h"
#include "kernels/core/grid.h"
#include "kernels/merge/merge/policy.h"

namespace qkv::host::merge {
namespace {

static_assert(kernels::kMergeMaxParts == QKV_MERGE_MAX_PARTS);

struct MergePlan : KernelPlan {
  int64_t blocks = 0;  // of the grid

  std::string text() const override {
    return text_line("grid", blocks, " blocks of ", kernels::kMergeThreads, " threads");
  }
};

std::string merge_decline(const Problem& m, const DeviceInfo&) {
  if (std::max({m.batch, m.heads, m.seq, m.dim}) > INT32_MAX ||
      kernels::merge_blocks(m.batch, m.heads, m.seq) > kernels::kMaxBlocks) {
    return "needs more than 2^31 - 1 blocks";
  }
  return {};
}

void merge_plan(const Problem& m, const DeviceInfo&, MergePlan* plan) {
  plan->blocks = kernels::merge_blocks(m.batch, m.heads, m.seq);
}

// The kernel is loaded by its first launch.
Status merge_prepare(const Problem&, const CudaRuntime&, MergePlan*) { return {}; }

#if QKV_HAS_CUDA
kernels::MergeArgs merge_args(const Problem& m) {
  kernels::MergeArgs args;
  for (size_t n = 0; n < static_cast<size_t>(m.parts); ++n) {
    args.o_parts[n] = kernel_tensor(m.o_parts[n]);
    args.lse_parts[n] = kernel_tensor(m.lse_parts[n]);
  }
  args.o = kernel_tensor(m.o);
  args.lse = kernel_tensor(m.lse);
  args.part_type = kernel_type(m.o_parts[0].type);
  args.o_type = kernel_type(m.o.type);
  args.parts = m.parts;
  args.batch = static_cast<int32_t>(m.batch);
  args.heads = static_cast<int32_t>(m.heads);
  args.seq = static_cast<int32_t>(m.seq);
  args.dim = static_cast<int32_t>(m.dim);
  return args;
}

Status merge_launch(const Problem& m, const MergePlan&, const CudaRuntime& cuda, const Run& run) {
  return cuda.queue(run, [&] { return kernels::launch_merge(merge_args(m), run.stream); });
}
#else
constexpr auto merge_launch = launch_absent<Problem, MergePlan>;
#endif

}  // namespace

constexpr Kernel kCudaMerge =
    kernel_of<Problem, MergePlan, merge_decline, merge_plan, merge_prepare, merge_launch>(
        "merge", QKV_DEVICE_CUDA);

}  // namespace qkv::host::merge
