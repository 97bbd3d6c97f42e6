// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/simt_additive/kernel.cuh"
#include "kernels/attention/simt_additive/launch.h"
#include "kernels/attention/simt_additive/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

template <Type kType>
int prepare_simt_additive_instance() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, simt_additive<kType>);
}

template <Type kType>
int launch_simt_additive_instance(const ForwardArgs& args, void* stream) {
  const int64_t blocks = grid_blocks(kSimtAdditiveTileQ, 1, args.batch, args.heads_q, args.s_q);
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || args.d_v > kSimtAdditiveMaxDim) return cudaErrorInvalidValue;
  simt_additive<kType><<<static_cast<unsigned>(blocks), kSimtAdditiveThreads, 0,
                         static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
