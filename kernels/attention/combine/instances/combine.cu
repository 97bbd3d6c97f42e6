#include <cuda_runtime_api.h>

#include "kernels/attention/combine/kernel.cuh"
#include "kernels/attention/combine/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {
namespace {

template <Type kType>
int prepare() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, combine<kType>);
}

template <Type kType>
int launch(const ForwardArgs& args, int32_t splits, const Partials& partials, bool early,
           void* stream) {
  const int64_t rows = int64_t{args.batch} * args.heads_q * args.s_q;
  if (rows == 0) return cudaSuccess;
  if (rows > kMaxBlocks || splits > kMaxSplits) return cudaErrorInvalidValue;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(rows));
  config.blockDim = dim3(kCombineThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  cudaLaunchAttribute dependent{};
  dependent.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  dependent.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &dependent;
  config.numAttrs = early ? 1 : 0;
  const cudaError_t error = cudaLaunchKernelEx(&config, combine<kType>, args, splits, partials);
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

}  // namespace

int prepare_combine(Type type) {
#define QKV_COMBINE(kType) \
  if (type == Type::k##kType) return prepare<Type::k##kType>();
#include "kernels/attention/combine/instances.inc"
  return cudaErrorInvalidValue;
}

int launch_combine(Type type, const ForwardArgs& args, int32_t splits, const Partials& partials,
                   bool early, void* stream) {
#define QKV_COMBINE(kType) \
  if (type == Type::k##kType) return launch<Type::k##kType>(args, splits, partials, early, stream);
#include "kernels/attention/combine/instances.inc"
  return cudaErrorInvalidValue;
}

}  // namespace qkv::kernels
