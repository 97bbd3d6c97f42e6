#include <cuda_runtime_api.h>

#include "kernels/combine/kernel.cuh"
#include "kernels/policy.h"

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
  if (type == Type::kF32) return prepare<Type::kF32>();
  return type == Type::kF16 ? prepare<Type::kF16>() : prepare<Type::kBF16>();
}

int launch_combine(Type type, const ForwardArgs& args, int32_t splits, const Partials& partials,
                   void* stream) {
  if (type == Type::kF32) return launch<Type::kF32>(args, splits, partials, stream);
  return type == Type::kF16 ? launch<Type::kF16>(args, splits, partials, stream)
                            : launch<Type::kBF16>(args, splits, partials, stream);
}

}  // namespace qkv::kernels
