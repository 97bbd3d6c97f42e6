// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/sm80_tf32x3_hard/kernel.cuh"
#include "kernels/attention/sm80_tf32x3_hard/launch.h"
#include "kernels/attention/sm80_tf32x3_hard/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

template <int kDim, bool kRules>
int prepare_sm80_tf32x3_hard_instance() {
  constexpr auto kBytes =
      static_cast<int>(sm80_tf32x3_hard_smem_bytes(sm80_tf32x3_hard_policy(kDim, kRules)));
  return cudaFuncSetAttribute(sm80_tf32x3_hard<kDim, kRules>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
}

template <int kDim, bool kRules>
int launch_sm80_tf32x3_hard_instance(const ForwardArgs& args, const TileSchedule& schedule,
                                     BestKey* of_splits, void* stream) {
  constexpr Sm80Tf32x3HardPolicy kPolicy = sm80_tf32x3_hard_policy(kDim, kRules);
  const int64_t blocks = schedule.blocks();
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || schedule.tile_q != kSm80Tf32x3HardTileQ ||
      schedule.tile_kv != kPolicy.tile_kv || args.d_qk > kDim)
    return cudaErrorInvalidValue;
  sm80_tf32x3_hard<kDim, kRules>
      <<<static_cast<unsigned>(blocks), kSm80Tf32x3HardThreads,
         sm80_tf32x3_hard_smem_bytes(kPolicy), static_cast<cudaStream_t>(stream)>>>(args, schedule,
                                                                                    of_splits);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
