// A stand-in for the cuBLAS calls that the project makes: GEMMs, computed on the CPU in stream
// order, accumulated in double and rounded once.
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "common/minifloat.h"
#include "machine/global_memory.h"

#define VGPU_EXPORT extern "C" __attribute__((visibility("default")))

using namespace vgpu;

// Exported by the stand-in runtime: the host's view of device memory, and its map of defined bytes
// (null: all are), where the first one is at bit `offset`.
extern "C" void* __cudaVgpuView(const void* device, size_t bytes, u64** defined, u64* offset);

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
};

namespace {

size_t element_bytes(cudaDataType_t t) {
  switch (t) {
    case CUDA_R_16F:
    case CUDA_R_16BF:
      return 2;
    case CUDA_R_32F:
      return 4;
    case CUDA_R_64F:
      return 8;
    default:
      return 0;
  }
}
double load(const u8* p, cudaDataType_t t, i64 i) {
  switch (t) {
    case CUDA_R_16F:
      return half_to_float(reinterpret_cast<const u16*>(p)[i]);
    case CUDA_R_16BF:
      return bf16_to_float(reinterpret_cast<const u16*>(p)[i]);
    case CUDA_R_32F:
      return reinterpret_cast<const float*>(p)[i];
    default:
      return reinterpret_cast<const double*>(p)[i];
  }
}
void store(u8* p, cudaDataType_t t, i64 i, double v) {
  switch (t) {
    case CUDA_R_16F:
      reinterpret_cast<u16*>(p)[i] =
          static_cast<u16>(encode(kF16, v, Rounding::kNearestEven, false));
      break;
    case CUDA_R_16BF:
      reinterpret_cast<u16*>(p)[i] =
          static_cast<u16>(encode(kBf16, v, Rounding::kNearestEven, false));
      break;
    case CUDA_R_32F:
      reinterpret_cast<float*>(p)[i] = static_cast<float>(v);
      break;
    default:
      reinterpret_cast<double*>(p)[i] = v;
      break;
  }
}

// Which elements of a matrix are defined.
struct Defined {
  u64* map;
  u64 offset;
  size_t bytes;

  u64 at(i64 element) const { return offset + static_cast<u64>(element) * bytes; }
  bool get(i64 element) const { return map == nullptr || all_set(map, at(element), bytes); }
  void set(i64 element, bool defined) const {
    if (map != nullptr) put_bits(map, at(element), bytes, defined ? ~u64{0} : 0);
  }
};

// C (m x n) = alpha * op(A) op(B) + beta * C, column major, for every matrix of a batch.
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

  void run() const {
    for (i64 i = 0; i < batch; ++i) one(i);
  }

 private:
  static i64 extent(i64 rows, i64 columns, i64 ld) {
    return rows == 0 || columns == 0 ? 0 : (columns - 1) * ld + rows;
  }
  void one(i64 index) const {
    const size_t ea = element_bytes(type_a), eb = element_bytes(type_b), ec = element_bytes(type_c);
    const i64 rows_a = transpose_a ? k : m, columns_a = transpose_a ? m : k;
    const i64 rows_b = transpose_b ? n : k, columns_b = transpose_b ? k : n;
    Defined defined_a{nullptr, 0, ea}, defined_b{nullptr, 0, eb}, defined_c{nullptr, 0, ec};
    const auto view = [&](const void* p, i64 offset, i64 count, Defined& d) {
      const u8* at = static_cast<const u8*>(p) + offset * static_cast<i64>(d.bytes);
      return static_cast<u8*>(
          __cudaVgpuView(at, static_cast<size_t>(count) * d.bytes, &d.map, &d.offset));
    };
    const u8* pa = view(a, index * stride_a, extent(rows_a, columns_a, lda), defined_a);
    const u8* pb = view(b, index * stride_b, extent(rows_b, columns_b, ldb), defined_b);
    u8* pc = view(c, index * stride_c, extent(m, n, ldc), defined_c);
    if (pa == nullptr || pb == nullptr || pc == nullptr) {
      std::fprintf(stderr, "vgpu: a GEMM operand is not in device memory\n");
      return;
    }
    std::vector<double> row(static_cast<size_t>(k)), columns(static_cast<size_t>(k * n));
    // An element of C is as defined as all that goes into it.
    std::vector<char> column_defined(static_cast<size_t>(n), 1);
    for (i64 j = 0; j < n; ++j) {
      for (i64 x = 0; x < k; ++x) {
        const i64 at = transpose_b ? x * ldb + j : j * ldb + x;
        columns[static_cast<size_t>(j * k + x)] = load(pb, type_b, at);
        if (!defined_b.get(at)) column_defined[static_cast<size_t>(j)] = 0;
      }
    }
    for (i64 i = 0; i < m; ++i) {
      bool row_defined = true;
      for (i64 x = 0; x < k; ++x) {
        const i64 at = transpose_a ? i * lda + x : x * lda + i;
        row[static_cast<size_t>(x)] = load(pa, type_a, at);
        row_defined = row_defined && defined_a.get(at);
      }
      for (i64 j = 0; j < n; ++j) {
        double sum = 0;
        const double* column = &columns[static_cast<size_t>(j * k)];
        for (i64 x = 0; x < k; ++x) sum += row[static_cast<size_t>(x)] * column[x];
        const i64 at = j * ldc + i;
        const double old = beta == 0 ? 0 : beta * load(pc, type_c, at);
        store(pc, type_c, at, alpha * sum + old);
        defined_c.set(at, row_defined && column_defined[static_cast<size_t>(j)] != 0 &&
                              (beta == 0 || defined_c.get(at)));
      }
    }
  }
};

// A captured graph may run it more than once, and work may run as the program ends: it is kept, and
// the list is never destroyed.
Gemm* keep(const Gemm& gemm) {
  static std::mutex mutex;
  static auto* kept = new std::deque<Gemm>;
  std::lock_guard lock(mutex);
  return &kept->emplace_back(gemm);
}

cublasStatus_t enqueue(cublasHandle_t handle, Gemm gemm) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (gemm.m < 0 || gemm.n < 0 || gemm.k < 0 || gemm.batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (element_bytes(gemm.type_a) == 0 || element_bytes(gemm.type_b) == 0 ||
      element_bytes(gemm.type_c) == 0)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  const cudaError_t e = cudaLaunchHostFunc(
      handle->stream, [](void* p) { static_cast<const Gemm*>(p)->run(); }, keep(gemm));
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
