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
int launch(const ForwardArgs& args, int32_t splits, const Partials& partials, void* stream) {
  const int64_t rows = int64_t{args.batch} * args.heads_q * args.s_q;
  if (rows == 0) return cudaSuccess;
  if (rows > kMaxBlocks || splits > kMaxSplits) return cudaErrorInvalidValue;
  combine<kType>
      <<<static_cast<unsigned>(rows), kCombineThreads, 0, static_cast<cudaStream_t>(stream)>>>(
          args, splits, partials);
  return cudaGetLastError();
}

}  // namespace

int prepare_combine(Type type) {
#define QKV_COMBINE(kType) \
  if (type == Type::k##kType) return prepare<Type::k##kType>();
#include "kernels/attention/combine/instances.inc"
  return cudaErrorInvalidValue;
}

int launch_combine(Type type, const ForwardArgs& args, int32_t splits, const Partials& partials,
                   void* stream) {
#define QKV_COMBINE(kType) \
  if (type == Type::k##kType) return launch<Type::k##kType>(args, splits, partials, stream);
#include "kernels/attention/combine/instances.inc"
  return cudaErrorInvalidValue;
}

}  // namespace qkv::kernels
