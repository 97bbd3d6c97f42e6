#include "bench/gemm_ceiling.h"

#include <cublas_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/baselines/cublas_attention.h"
#include "bench/tensors.h"
#include "host/ops/attention/problem.h"

namespace qkv::bench {
namespace {

// Written out because the header overloads it.
using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m,
                                  int n, int k, const void* alpha, const void* a, cudaDataType_t,
                                  int lda, const void* b, cudaDataType_t, int ldb, const void* beta,
                                  void* c, cudaDataType_t, int ldc, cublasComputeType_t,
                                  cublasGemmAlgo_t);

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string(what) + " failed with " + std::to_string(status));
}

// The library that the baseline has opened.
class Cublas {
 public:
  Cublas() {
    for (const char* name : {"libcublas.so.13", "libcublas.so.12"}) {
      if (library_ == nullptr) library_ = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
    }
    if (library_ == nullptr) throw std::runtime_error("cuBLAS is not open");
    decltype(&cublasCreate_v2) create = nullptr;
    load("cublasCreate_v2", &create);
    load("cublasDestroy_v2", &destroy_);
    load("cublasSetStream_v2", &set_stream);
    load("cublasGemmEx", &gemm);
    check(create(&handle), "cublasCreate");
  }
  ~Cublas() { (void)destroy_(handle); }
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  cublasHandle_t handle = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  GemmEx gemm = nullptr;

 private:
  template <class Function>
  void load(const char* name, Function* function) {
    *function = reinterpret_cast<Function>(dlsym(library_, name));
    if (*function == nullptr) throw std::runtime_error(std::string("cuBLAS has no ") + name);
  }

  void* library_ = nullptr;
  decltype(&cublasDestroy_v2) destroy_ = nullptr;
};

cudaDataType_t cuda_type(qkv_type type) {
  if (type == QKV_TYPE_F32) return CUDA_R_32F;
  return type == QKV_TYPE_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

DeviceBuffer random_matrix(qkv_type type, int64_t size, uint64_t seed) {
  const auto bytes = static_cast<size_t>(size * size * host::type_size(type));
  const Buffer host_copy(bytes);
  fill_random(host_copy, type, seed);
  DeviceBuffer matrix(bytes);
  cuda_check(cudaMemcpy(matrix.data(), host_copy.data(), bytes, cudaMemcpyHostToDevice), "upload");
  return matrix;
}

}  // namespace

double gemm_ceiling_tflops(qkv_type type, DeviceTimer* timer, const GemmRuns& how) {
  if (!CublasAttention::available().empty()) return std::numeric_limits<double>::quiet_NaN();
  const Cublas cublas;
  check(cublas.set_stream(cublas.handle, timer->stream()), "cublasSetStream");
  const int n = how.size;
  const DeviceBuffer a = random_matrix(type, n, 1), b = random_matrix(type, n, 2),
                     c = random_matrix(type, n, 3);
  const cudaDataType_t element = cuda_type(type);
  const float one = 1, zero = 0;
  const auto product = [&](cudaStream_t) {
    check(cublas.gemm(cublas.handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, a.data(), element, n,
                      b.data(), element, n, &zero, c.data(), element, n, CUBLAS_COMPUTE_32F,
                      CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
  };
  for (double warm = 0; warm < how.warm_seconds;) warm += timer->seconds(product);
  std::vector<double> seconds;
  for (int run = 0; run < how.runs; ++run) seconds.push_back(timer->seconds(product));
  std::nth_element(seconds.begin(), seconds.begin() + how.runs / 2, seconds.end());
  return 2.0 * n * n * n / seconds[static_cast<size_t>(how.runs / 2)] * 1e-12;
}

}  // namespace qkv::bench
