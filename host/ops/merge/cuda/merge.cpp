#include <algorithm>
#include <cstdint>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/op.h"
#include "kernels/merge/launch.h"
#include "kernels/policy.h"

namespace qkv::host {

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
