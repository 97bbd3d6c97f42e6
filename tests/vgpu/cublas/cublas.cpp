// A stand-in for the cuBLAS calls that the project makes: GEMMs, in stream order.
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include "common/minifloat.h"
#include "cublas/gemm.h"

#define VGPU_EXPORT extern "C" __attribute__((visibility("default")))

using namespace vgpu;

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
};

namespace {

cublasStatus_t enqueue(cublasHandle_t handle, const Gemm& gemm) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (gemm.m < 0 || gemm.n < 0 || gemm.k < 0 || gemm.batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (element_bytes(gemm.type_a) == 0 || element_bytes(gemm.type_b) == 0 ||
      element_bytes(gemm.type_c) == 0)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  const cudaError_t e = vgpu::enqueue(handle->stream, gemm);
  return e == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

double scalar(const void* p, cublasComputeType_t compute) {
  const bool half = compute == CUBLAS_COMPUTE_16F || compute == CUBLAS_COMPUTE_16F_PEDANTIC;
  const bool wide = compute == CUBLAS_COMPUTE_64F || compute == CUBLAS_COMPUTE_64F_PEDANTIC;
  if (half) return half_to_float(*static_cast<const u16*>(p));
  return wide ? *static_cast<const double*>(p) : double{*static_cast<const float*>(p)};
}

}  // namespace

VGPU_EXPORT cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
  *mode = handle->math;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle,
                                                   cublasPointerMode_t mode) {
  handle->pointer_mode = mode;
  return mode == CUBLAS_POINTER_MODE_HOST ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}
VGPU_EXPORT cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* version) {
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT const char* cublasGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "success"
         : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported"
                                                 : "failure";
}
VGPU_EXPORT const char* cublasGetStatusName(cublasStatus_t status) {
  return cublasGetStatusString(status);
}

VGPU_EXPORT cublasStatus_t cublasSgemm_v2(cublasHandle_t h, cublasOperation_t ta,
                                          cublasOperation_t tb, int m, int n, int k,
                                          const float* alpha, const float* a, int lda,
                                          const float* b, int ldb, const float* beta, float* c,
                                          int ldc) {
  return enqueue(h, {ta != CUBLAS_OP_N, tb != CUBLAS_OP_N, m, n, k, *alpha, *beta, a, b, c,
                     CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, lda, ldb, ldc});
}
VGPU_EXPORT cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t h, cublasOperation_t ta,
                                                     cublasOperation_t tb, int m, int n, int k,
                                                     const float* alpha, const float* a, int lda,
                                                     long long sa, const float* b, int ldb,
                                                     long long sb, const float* beta, float* c,
                                                     int ldc, long long sc, int batch) {
  return enqueue(
      h,
      {ta != CUBLAS_OP_N, tb != CUBLAS_OP_N, m,          n,   k,   *alpha, *beta, a,  b,  c,
       CUDA_R_32F,        CUDA_R_32F,        CUDA_R_32F, lda, ldb, ldc,    sa,    sb, sc, batch});
}
VGPU_EXPORT cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta,
                                        cublasOperation_t tb, int m, int n, int k,
                                        const void* alpha, const void* a, cudaDataType_t type_a,
                                        int lda, const void* b, cudaDataType_t type_b, int ldb,
                                        const void* beta, void* c, cudaDataType_t type_c, int ldc,
                                        cublasComputeType_t compute, cublasGemmAlgo_t) {
  return enqueue(h, {ta != CUBLAS_OP_N, tb != CUBLAS_OP_N, m, n, k, scalar(alpha, compute),
                     scalar(beta, compute), a, b, c, type_a, type_b, type_c, lda, ldb, ldc});
}
VGPU_EXPORT cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
    const void* alpha, const void* a, cudaDataType_t type_a, int lda, long long sa, const void* b,
    cudaDataType_t type_b, int ldb, long long sb, const void* beta, void* c, cudaDataType_t type_c,
    int ldc, long long sc, int batch, cublasComputeType_t compute, cublasGemmAlgo_t) {
  return enqueue(h, {ta != CUBLAS_OP_N,
                     tb != CUBLAS_OP_N,
                     m,
                     n,
                     k,
                     scalar(alpha, compute),
                     scalar(beta, compute),
                     a,
                     b,
                     c,
                     type_a,
                     type_b,
                     type_c,
                     lda,
                     ldb,
                     ldc,
                     sa,
                     sb,
                     sc,
                     batch});
}
