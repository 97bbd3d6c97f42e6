// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/sm80_tf32x3/kernel.cuh"
#include "kernels/attention/sm80_tf32x3/launch.h"
#include "kernels/attention/sm80_tf32x3/policy.h"
#include "kernels/core/grid.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

template <int kDim, bool kRules>
int prepare_sm80_tf32x3_instance() {
  constexpr auto kBytes =
      static_cast<int>(sm80_tf32x3_smem_bytes(sm80_tf32x3_policy(kDim, kRules)));
  return cudaFuncSetAttribute(sm80_tf32x3<kDim, kRules>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
}

template <int kDim, bool kRules>
int launch_sm80_tf32x3_instance(const ForwardArgs& args, void* stream) {
  constexpr Sm80Tf32x3Policy kPolicy = sm80_tf32x3_policy(kDim, kRules);
  const int64_t blocks = grid_blocks(kSm80Tf32x3TileQ, 1, args.batch, args.heads_q, args.s_q);
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || args.d_qk > kDim || args.d_v > kDim) return cudaErrorInvalidValue;
  // Head by head (a section is one set), so that the tiles of a head share its K and V in L2.
  TileSchedule schedule = tile_schedule(kSm80Tf32x3TileQ, kPolicy.tile_kv, args.batch, args.heads_q,
                                        args.heads_kv, args.s_q, 1);
  schedule.section = 1;
  sm80_tf32x3<kDim, kRules>
      <<<static_cast<unsigned>(blocks), kSm80Tf32x3Threads, sm80_tf32x3_smem_bytes(kPolicy),
         static_cast<cudaStream_t>(stream)>>>(args, schedule);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
