// Defines the launcher of an instance. Only instances/*.cu include this: kernel and launcher share
// their translation unit.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention/sm90_wide/kernel.cuh"
#include "kernels/attention/sm90_wide/launch.h"
#include "kernels/attention/sm90_wide/policy.h"

namespace qkv::kernels {

template <Type kType, bool kSoftcap>
int prepare_sm90_wide_instance() {
  return cudaFuncSetAttribute(sm90_wide<kType, kSoftcap>,
                              cudaFuncAttributeMaxDynamicSharedMemorySize, kSm90WideSmemBytes);
}

template <Type kType, bool kSoftcap>
int launch_sm90_wide_instance(const Sm90WideArgs& args, void* stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(args.schedule.blocks() * args.cluster));
  config.blockDim = dim3(kSm90WideThreads);
  config.dynamicSmemBytes = kSm90WideSmemBytes;
  config.stream = static_cast<cudaStream_t>(stream);
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(args.cluster), 1, 1};
  config.attrs = &cluster;
  config.numAttrs = 1;
  const cudaError_t error = cudaLaunchKernelEx(&config, sm90_wide<kType, kSoftcap>, args);
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

}  // namespace qkv::kernels
