// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/simt_forward/kernel.cuh"
#include "kernels/attention/simt_forward/launch.h"
#include "kernels/attention/simt_forward/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

template <Type kType, int kMaxDim>
int prepare_simt_forward_instance() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, simt_forward<kType, kMaxDim>);
}

template <Type kType, int kMaxDim>
int launch_simt_forward_instance(const ForwardArgs& args, void* stream) {
  constexpr SimtForwardPolicy kPolicy = simt_forward_policy(kMaxDim);
  const int64_t blocks = grid_blocks(kPolicy.tile_q, 1, args.batch, args.heads_q, args.s_q);
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || args.d_v > kMaxDim) return cudaErrorInvalidValue;
  simt_forward<kType, kMaxDim>
      <<<static_cast<unsigned>(blocks), kPolicy.threads, 0, static_cast<cudaStream_t>(stream)>>>(
          args);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
