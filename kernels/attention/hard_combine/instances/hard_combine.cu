#include <cuda_runtime_api.h>

#include "kernels/attention/hard_combine/kernel.cuh"
#include "kernels/attention/hard_combine/launch.h"
#include "kernels/attention/hard_combine/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

int prepare_hard_combine() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, hard_combine);
}

int launch_hard_combine(const ForwardArgs& args, int32_t element_bytes, float factor,
                        int32_t splits, const BestKey* of_splits, void* stream) {
  constexpr int64_t kRows = kHardCombineThreads / 32;
  const int64_t rows = int64_t{args.batch} * args.heads_q * args.s_q;
  const int64_t blocks = (rows + kRows - 1) / kRows;
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks) return cudaErrorInvalidValue;
  hard_combine<<<static_cast<unsigned>(blocks), kHardCombineThreads, 0,
                 static_cast<cudaStream_t>(stream)>>>(args, element_bytes, factor, splits,
                                                      of_splits);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
