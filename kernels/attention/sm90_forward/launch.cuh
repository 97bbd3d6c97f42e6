// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/sm90_forward/kernel.cuh"
#include "kernels/attention/sm90_forward/launch.h"
#include "kernels/attention/sm90_forward/policy.h"

namespace qkv::kernels {

template <Type kType, int kDimQk, int kDimV, Sm90Variant kVariant>
int prepare_sm90_forward_instance() {
  return cudaFuncSetAttribute(sm90_forward<kType, kDimQk, kDimV, kVariant>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              sm90_shape(kDimQk, kDimV, kVariant)->smem_bytes());
}

template <Type kType, int kDimQk, int kDimV, Sm90Variant kVariant>
int launch_sm90_forward_instance(const Sm90ForwardArgs& args, int32_t blocks, void* stream) {
  sm90_forward<kType, kDimQk, kDimV, kVariant>
      <<<static_cast<unsigned>(blocks), sm90_shape(kDimQk, kDimV, kVariant)->threads(),
         sm90_shape(kDimQk, kDimV, kVariant)->smem_bytes(), static_cast<cudaStream_t>(stream)>>>(
          args);
  return cudaGetLastError();
}

}  // namespace qkv::kernels
