// A product of matrices on the CPU, as the stand-ins for NVIDIA's libraries compute it: accumulated
// in double and rounded once, in the memory of the device.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include "common/types.h"

namespace vgpu {

// 0: no type of theirs.
size_t element_bytes(cudaDataType_t t);

// C (m x n) = alpha * op(A) op(B) + beta * C + bias, column major, for every matrix of a batch.
struct Gemm {
  bool transpose_a, transpose_b;
  i64 m, n, k;
  double alpha, beta;
  const void *a, *b;
  void* c;
  cudaDataType_t type_a, type_b, type_c;
  i64 lda, ldb, ldc;
  i64 stride_a = 0, stride_b = 0, stride_c = 0;
  i64 batch = 1;
  const void* bias = nullptr;  // one number for each row of C, in C's type
  i64 stride_bias = 0;

  void run() const;

 private:
  void one(i64 index) const;
};

// Work of the stream's order. A captured graph may run it more than once, and it may run as the
// program ends: it is kept for good.
cudaError_t enqueue(cudaStream_t stream, const Gemm& gemm);

}  // namespace vgpu
