// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/top_k_combine/kernel.cuh"
#include "kernels/attention/top_k_combine/launch.h"
#include "kernels/attention/top_k_combine/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

template <Type kType>
int prepare_top_k_combine_instance() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, top_k_combine<kType>);
}

template <Type kType>
int launch_top_k_combine_instance(const ForwardArgs& args, const TopKArgs& top, int32_t splits,
                                  const RankedKey* of_splits, void* stream) {
  constexpr int64_t kRows = kTopKCombineThreads / 32;
  const int64_t rows = int64_t{args.batch} * args.heads_q * args.s_q;
  const int64_t blocks = (rows + kRows - 1) / kRows;
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || top.k < 1 || top.k > kMaxTopK) return cudaErrorInvalidValue;
  top_k_combine<kType><<<static_cast<unsigned>(blocks), kTopKCombineThreads, 0,
                         static_cast<cudaStream_t>(stream)>>>(args, top, splits, of_splits);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
