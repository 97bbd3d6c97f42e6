// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/policy.h"
#include "kernels/sm80_forward/kernel.cuh"
#include "kernels/sm80_forward/launch.h"

namespace qkv::kernels {

template <Type kType, int kDim, bool kRules>
int prepare_sm80_forward_instance() {
  constexpr auto kBytes =
      static_cast<int>(sm80_forward_smem_bytes(sm80_forward_policy(kDim, kRules)));
  return cudaFuncSetAttribute(sm80_forward<kType, kDim, kRules>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
}

template <Type kType, int kDim, bool kRules>
int launch_sm80_forward_instance(const ForwardArgs& args, void* stream) {
  constexpr Sm80ForwardPolicy kPolicy = sm80_forward_policy(kDim, kRules);
  const int64_t blocks = grid_blocks(kPolicy.tile_q, 1, args.batch, args.heads_q, args.s_q);
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || args.d_qk > kDim || args.d_v > kDim) return cudaErrorInvalidValue;
  sm80_forward<kType, kDim, kRules>
      <<<static_cast<unsigned>(blocks), kSm80Threads, sm80_forward_smem_bytes(kPolicy),
         static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
