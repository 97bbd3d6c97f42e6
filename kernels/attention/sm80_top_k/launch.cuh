// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/sm80_top_k/kernel.cuh"
#include "kernels/attention/sm80_top_k/launch.h"
#include "kernels/attention/sm80_top_k/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

template <Type kType, int kDim, bool kRules>
int prepare_sm80_top_k_instance(int32_t smem_bytes) {
  return cudaFuncSetAttribute(sm80_top_k<kType, kDim, kRules>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize, smem_bytes);
}

template <Type kType, int kDim, bool kRules>
int launch_sm80_top_k_instance(const ForwardArgs& args, const TopKArgs& top,
                               const TileSchedule& schedule, RankedKey* of_splits, void* stream) {
  constexpr Sm80TopKPolicy kPolicy = sm80_top_k_policy(kDim, kRules);
  const int64_t blocks = schedule.blocks();
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || schedule.tile_q != kPolicy.tile_q ||
      schedule.tile_kv != kSm80TopKTileKv || args.d_qk > kDim || top.k < 1 || top.k > kMaxTopK)
    return cudaErrorInvalidValue;
  sm80_top_k<kType, kDim, kRules>
      <<<static_cast<unsigned>(blocks), kSm80TopKThreads,
         static_cast<size_t>(sm80_top_k_smem_bytes(kPolicy, top.k)),
         static_cast<cudaStream_t>(stream)>>>(args, top, schedule, of_splits);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
