// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/sm80_additive/kernel.cuh"
#include "kernels/attention/sm80_additive/launch.h"
#include "kernels/attention/sm80_additive/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

template <Type kType, int kDim, bool kRules>
int prepare_sm80_additive_instance() {
  constexpr auto kBytes =
      static_cast<int>(sm80_additive_smem_bytes(sm80_additive_policy(kDim, kRules)));
  return cudaFuncSetAttribute(sm80_additive<kType, kDim, kRules>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
}

template <Type kType, int kDim, bool kRules>
int launch_sm80_additive_instance(const ForwardArgs& args, const TileSchedule& schedule,
                                  const Partials& partials, void* stream) {
  constexpr Sm80AdditivePolicy kPolicy = sm80_additive_policy(kDim, kRules);
  const int64_t blocks = schedule.blocks();
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || schedule.tile_q != kPolicy.tile_q ||
      schedule.tile_kv != kPolicy.tile_kv || args.d_qk > kDim || args.d_v > kDim ||
      args.d_qk % kSm80AdditiveChunk != 0)
    return cudaErrorInvalidValue;
  sm80_additive<kType, kDim, kRules>
      <<<static_cast<unsigned>(blocks), kSm80AdditiveThreads, sm80_additive_smem_bytes(kPolicy),
         static_cast<cudaStream_t>(stream)>>>(args, schedule, partials);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
