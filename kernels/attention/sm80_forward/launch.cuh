// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/sm80_forward/kernel.cuh"
#include "kernels/attention/sm80_forward/launch.h"
#include "kernels/attention/sm80_forward/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

template <Type kType, int kDim, Sm80Variant kVariant>
int prepare_sm80_forward_instance() {
  constexpr auto kBytes =
      static_cast<int>(sm80_forward_smem_bytes(sm80_forward_policy(kDim, kVariant)));
  return cudaFuncSetAttribute(sm80_forward<kType, kDim, kVariant>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
}

template <Type kType, int kDim, Sm80Variant kVariant>
int launch_sm80_forward_instance(const ForwardArgs& args, const TileSchedule& schedule,
                                 const Partials& partials, void* stream) {
  constexpr Sm80ForwardPolicy kPolicy = sm80_forward_policy(kDim, kVariant);
  const int64_t blocks = schedule.blocks();
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || schedule.tile_q != kPolicy.tile_q ||
      schedule.tile_kv != kPolicy.tile_kv || args.d_qk > kDim || args.d_v > kDim)
    return cudaErrorInvalidValue;
  sm80_forward<kType, kDim, kVariant>
      <<<static_cast<unsigned>(blocks), kSm80ForwardThreads, sm80_forward_smem_bytes(kPolicy),
         static_cast<cudaStream_t>(stream)>>>(args, schedule, partials);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
