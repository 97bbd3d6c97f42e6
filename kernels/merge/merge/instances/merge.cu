#include <cuda_runtime_api.h>

#include "kernels/merge/merge/kernel.cuh"
#include "kernels/merge/merge/policy.h"

namespace qkv::kernels {

int launch_merge(const MergeArgs& args, void* stream) {
  const int64_t blocks = merge_blocks(args.batch, args.heads, args.seq);
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks) return cudaErrorInvalidValue;
  merge<<<static_cast<unsigned>(blocks), kMergeThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      args);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
