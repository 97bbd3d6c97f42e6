// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/simt_general/kernel.cuh"
#include "kernels/attention/simt_general/launch.h"
#include "kernels/attention/simt_general/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

template <Type kType, Score kScore, Selection kSelection>
int prepare_simt_general_instance() {
  cudaFuncAttributes attributes;
  const int error = cudaFuncGetAttributes(&attributes, simt_general<kType, kScore, kSelection>);
  if (error != cudaSuccess || kSelection != Selection::kTopK) return error;
  return cudaFuncSetAttribute(simt_general<kType, kScore, kSelection>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              simt_general_list_bytes(kSelection, kMaxTopK));
}

template <Type kType, Score kScore, Selection kSelection>
int launch_simt_general_instance(const ForwardArgs& args, const TopKArgs& top, void* stream) {
  const int64_t slices = simt_general_slices(kSelection, args.d_v);
  const int64_t blocks = grid_blocks(kSimtGeneralTileQ, slices, args.batch, args.heads_q, args.s_q);
  if (blocks == 0) return cudaSuccess;
  if (blocks > kMaxBlocks || top.k < 1 || top.k > kMaxTopK) return cudaErrorInvalidValue;
  const auto lists = static_cast<size_t>(simt_general_list_bytes(kSelection, top.k));
  simt_general<kType, kScore, kSelection>
      <<<static_cast<unsigned>(blocks), kSimtGeneralThreads, lists,
         static_cast<cudaStream_t>(stream)>>>(args, top, static_cast<unsigned>(slices));
  return cudaGetLastError();
}

}  // namespace qkv::kernels
