// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/sm90_hard/kernel.cuh"
#include "kernels/attention/sm90_hard/launch.h"
#include "kernels/attention/sm90_hard/policy.h"

namespace qkv::kernels {

template <Type kType, int kDim>
int prepare_sm90_hard_instance() {
  return cudaFuncSetAttribute(sm90_hard<kType, kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              sm90_hard_shape(kDim)->smem_bytes());
}

template <Type kType, int kDim>
int launch_sm90_hard_instance(const Sm90HardArgs& args, int32_t blocks, void* stream) {
  sm90_hard<kType, kDim>
      <<<static_cast<unsigned>(blocks), kSm90HardThreads, sm90_hard_shape(kDim)->smem_bytes(),
         static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
