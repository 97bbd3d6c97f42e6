#include <cuda_runtime_api.h>

#include "kernels/attention/mask_summary/kernel.cuh"
#include "kernels/attention/mask_summary/launch.h"
#include "kernels/attention/mask_summary/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {
namespace {

// Bytes that can be read as one at the first key of each block of each row.
int32_t unit_of(const PairTensor& mask, int32_t tile_kv) {
  for (const int64_t bytes : {16, 4}) {
    const auto whole = [&](int64_t stride) { return stride % bytes == 0; };
    if (mask.col == 1 && reinterpret_cast<uintptr_t>(mask.data) % static_cast<size_t>(bytes) == 0 &&
        whole(mask.batch) && whole(mask.head) && whole(mask.row) && whole(tile_kv))
      return static_cast<int32_t>(bytes);
  }
  return 1;
}

}  // namespace

int prepare_mask_summary() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, mask_summary);
}

int launch_mask_summary(const ForwardArgs& args, const TileSchedule& schedule,
                        const MaskSummary& summary, int32_t* counter, void* stream) {
  constexpr int64_t kWarps = kMaskSummaryThreads / 32;
  const int64_t blocks = (summary.bytes() + kWarps - 1) / kWarps;
  if (blocks == 0 || blocks > kMaxBlocks || schedule.tile_kv > kMaskSummaryTileKv)
    return cudaErrorInvalidValue;
  const MaskSummaryArgs kernel_args{
      args.mask, summary, schedule, args.s_kv, unit_of(args.mask, schedule.tile_kv), counter};
  mask_summary<<<static_cast<unsigned>(blocks), kMaskSummaryThreads, 0,
                 static_cast<cudaStream_t>(stream)>>>(kernel_args);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
