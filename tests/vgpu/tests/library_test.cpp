// cuBLAS and the driver as qkv and its benchmarks use them: the stand-ins under vgpu-run, the real
// ones elsewhere. Products are checked against their definition, on numbers that keep sums exact.
#include <cublas_v2.h>
#include <cuda.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/runtime_kernels.h"

namespace vgpu::test {
namespace {

#define CHECK_CUDA(call) ASSERT_EQ(cudaSuccess, (call)) << cudaGetErrorString(cudaGetLastError())

// A library opened by name, as the benchmarks do it.
class Library {
 public:
  explicit Library(const char* name) : handle_(dlopen(name, RTLD_NOW)) {}
  bool open() const { return handle_ != nullptr; }
  template <class F>
  F get(const char* name) const {
    void* f = dlsym(handle_, name);
    EXPECT_NE(f, nullptr) << name;
    return reinterpret_cast<F>(f);
  }

 private:
  void* handle_;
};

// --- cuBLAS

using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                  int, const void*, const void*, cudaDataType_t, int, const void*,
                                  cudaDataType_t, int, const void*, void*, cudaDataType_t, int,
                                  cublasComputeType_t, cublasGemmAlgo_t);
using GemmBatched = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int,
                                       int, int, const void*, const void*, cudaDataType_t, int,
                                       long long, const void*, cudaDataType_t, int, long long,
                                       const void*, void*, cudaDataType_t, int, long long, int,
                                       cublasComputeType_t, cublasGemmAlgo_t);

size_t bytes_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

// Integers below 2048 as bits of a type, and back.
uint32_t encode(cudaDataType_t type, int v) {
  const float f = static_cast<float>(v);
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  if (type == CUDA_R_32F) return bits;
  if (type == CUDA_R_16BF) return bits >> 16;
  if (v == 0) return 0;
  return (bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 1023);
}

struct Product {
  bool transpose_a, transpose_b;
  int m, n, k;
  cudaDataType_t type, type_c;
  int batch, gap;  // elements after each column
  float alpha, beta;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
};

std::vector<Product> products() {
  const cudaDataType_t f32 = CUDA_R_32F, f16 = CUDA_R_16F, bf16 = CUDA_R_16BF;
  std::vector<Product> rows;
  for (const cudaDataType_t type : {f32, f16, bf16}) {
    // S^T = K Q^T and O^T = V^T P^T, as the unfused baseline makes them.
    rows.push_back({true, false, 13, 6, 8, type, f32, 3, 0, 0.5f, 0});
    rows.push_back({true, false, 13, 6, 8, type, type, 2, 0, 1, 0});
    rows.push_back({false, false, 8, 6, 13, type, type, 3, 3, 1, 0});
    // The square ceiling, and the rest of the interface.
    rows.push_back({false, false, 16, 16, 16, type, type, 1, 0, 1, 0});
    rows.push_back({false, true, 5, 7, 9, type, f32, 1, 2, 1, 1});
    rows.push_back({true, true, 5, 7, 9, type, f32, 2, 1, 2, -1});
    rows.push_back({false, false, 1, 1, 1, type, f32, 1, 0, 1, 0});
  }
  rows.push_back({true, false, 13, 6, 8, f32, f32, 3, 0, 1, 0, CUBLAS_COMPUTE_32F_FAST_TF32});
  return rows;
}

class Matrix {
 public:
  Matrix(cudaDataType_t type, int rows, int columns, int gap, int batch, uint32_t seed)
      : type_(type), rows_(rows), columns_(columns), ld(rows + gap), batch_(batch) {
    stride = static_cast<long long>(ld) * columns + gap;
    host.resize(static_cast<size_t>(stride * batch) * bytes_of(type), std::byte{0x7b});
    for (int b = 0; b < batch; ++b)
      for (int c = 0; c < columns; ++c)
        for (int r = 0; r < rows; ++r) {
          seed = seed * 1664525 + 1013904223;
          set(b, r, c, static_cast<int>(seed >> 24) % 7 - 3);
        }
    values_ready_ = true;
    EXPECT_EQ(cudaMalloc(&device, host.size()), cudaSuccess);
    upload();
  }
  ~Matrix() { (void)cudaFree(device); }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  void upload() const {
    EXPECT_EQ(cudaMemcpy(device, host.data(), host.size(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<std::byte> download() const {
    std::vector<std::byte> out(host.size());
    EXPECT_EQ(cudaMemcpy(out.data(), device, out.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    return out;
  }
  void set(int b, int r, int c, int v) {
    const size_t at = static_cast<size_t>(b * stride + c * ld + r);
    const uint32_t bits = encode(type_, v);
    std::memcpy(&host[at * bytes_of(type_)], &bits, bytes_of(type_));
    if (!values_ready_) values.push_back(v);
  }
  int get(int b, int r, int c) const {
    return values[static_cast<size_t>((b * columns_ + c) * rows_ + r)];
  }

  std::vector<std::byte> host;
  void* device = nullptr;
  std::vector<int> values;

 private:
  cudaDataType_t type_;
  int rows_, columns_;
  bool values_ready_ = false;

 public:
  int ld;
  long long stride;

 private:
  int batch_;
};

class Blas : public testing::Test {
 protected:
  void SetUp() override {
    if (!library.open()) GTEST_SKIP() << "no cuBLAS";
    ASSERT_EQ(library.get<decltype(&cublasCreate_v2)>("cublasCreate_v2")(&handle),
              CUBLAS_STATUS_SUCCESS);
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ASSERT_EQ(library.get<decltype(&cublasSetStream_v2)>("cublasSetStream_v2")(handle, stream),
              CUBLAS_STATUS_SUCCESS);
  }
  void TearDown() override {
    if (handle == nullptr) return;
    CHECK_CUDA(cudaStreamDestroy(stream));
    EXPECT_EQ(library.get<decltype(&cublasDestroy_v2)>("cublasDestroy_v2")(handle),
              CUBLAS_STATUS_SUCCESS);
  }
  Library library{VGPU_CUBLAS};
  cublasHandle_t handle = nullptr;
  cudaStream_t stream = nullptr;
};

TEST_F(Blas, ProductsByTheirDefinition) {
  const auto gemm = library.get<GemmEx>("cublasGemmEx");
  const auto batched = library.get<GemmBatched>("cublasGemmStridedBatchedEx");
  const auto sgemm = library.get<decltype(&cublasSgemm_v2)>("cublasSgemm_v2");
  const auto sgemm_batched =
      library.get<decltype(&cublasSgemmStridedBatched)>("cublasSgemmStridedBatched");
  for (const Product& p : products()) {
    SCOPED_TRACE(testing::Message() << "m " << p.m << " n " << p.n << " k " << p.k << " types "
                                    << p.type << " " << p.type_c << " batch " << p.batch);
    const Matrix a(p.type, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, p.gap, p.batch, 1);
    const Matrix b(p.type, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, p.gap, p.batch, 2);
    Matrix c(p.type_c, p.m, p.n, p.gap, p.batch, 3);
    const Matrix before(p.type_c, p.m, p.n, p.gap, p.batch, 3);
    for (int i = 0; i < p.batch; ++i)
      for (int col = 0; col < p.n; ++col)
        for (int row = 0; row < p.m; ++row) {
          int sum = 0;
          for (int x = 0; x < p.k; ++x)
            sum += (p.transpose_a ? a.get(i, x, row) : a.get(i, row, x)) *
                   (p.transpose_b ? b.get(i, col, x) : b.get(i, x, col));
          // Halves are no integers: the one such row doubles its sums.
          const float want = p.alpha * static_cast<float>(sum) +
                             p.beta * static_cast<float>(before.get(i, row, col));
          if (p.alpha == 0.5f) {
            uint32_t bits;
            std::memcpy(&bits, &want, 4);
            std::memcpy(&c.host[static_cast<size_t>(i * c.stride + col * c.ld + row) * 4], &bits,
                        4);
          } else {
            c.set(i, row, col, static_cast<int>(want));
          }
        }
    const cublasOperation_t op_a = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                            op_b = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    for (int call = 0; call < 3; ++call) {
      EXPECT_EQ(
          cudaMemcpy(c.device, before.host.data(), before.host.size(), cudaMemcpyHostToDevice),
          cudaSuccess);
      cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
      const bool single = p.type == CUDA_R_32F && p.type_c == CUDA_R_32F;
      if (call == 0) {
        status = batched(handle, op_a, op_b, p.m, p.n, p.k, &p.alpha, a.device, p.type, a.ld,
                         a.stride, b.device, p.type, b.ld, b.stride, &p.beta, c.device, p.type_c,
                         c.ld, c.stride, p.batch, p.compute, CUBLAS_GEMM_DEFAULT);
      } else if (call == 1 && p.batch == 1) {
        status =
            gemm(handle, op_a, op_b, p.m, p.n, p.k, &p.alpha, a.device, p.type, a.ld, b.device,
                 p.type, b.ld, &p.beta, c.device, p.type_c, c.ld, p.compute, CUBLAS_GEMM_DEFAULT);
      } else if (call == 2 && single && p.batch == 1) {
        status =
            sgemm(handle, op_a, op_b, p.m, p.n, p.k, &p.alpha, static_cast<const float*>(a.device),
                  a.ld, static_cast<const float*>(b.device), b.ld, &p.beta,
                  static_cast<float*>(c.device), c.ld);
      } else if (call == 2 && single) {
        status = sgemm_batched(handle, op_a, op_b, p.m, p.n, p.k, &p.alpha,
                               static_cast<const float*>(a.device), a.ld, a.stride,
                               static_cast<const float*>(b.device), b.ld, b.stride, &p.beta,
                               static_cast<float*>(c.device), c.ld, c.stride, p.batch);
      } else {
        continue;
      }
      ASSERT_EQ(status, CUBLAS_STATUS_SUCCESS) << "call " << call;
      CHECK_CUDA(cudaStreamSynchronize(stream));
      EXPECT_EQ(c.download(), c.host) << "call " << call;
    }
  }
}

// A product waits for what its stream did before, and can be captured.
TEST_F(Blas, InStreamOrderAndInGraphs) {
  const auto sgemm = library.get<decltype(&cublasSgemm_v2)>("cublasSgemm_v2");
  const auto workspace = library.get<decltype(&cublasSetWorkspace_v2)>("cublasSetWorkspace_v2");
  float *a = nullptr, *c = nullptr;
  void* scratch = nullptr;
  CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&a), 256));
  CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&c), 256));
  CHECK_CUDA(cudaMalloc(&scratch, 4 << 20));
  EXPECT_EQ(workspace(handle, scratch, 4 << 20), CUBLAS_STATUS_SUCCESS);
  std::vector<float> ones(64, 1.0f), out(64);
  const float one = 1, zero = 0;
  const auto product = [&] {
    launch_scale(a, 2, 64, stream);
    EXPECT_EQ(sgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 8, 8, 8, &one, a, 8, a, 8, &zero, c, 8),
              CUBLAS_STATUS_SUCCESS);
    launch_scale(c, 0.5f, 64, stream);
  };
  const auto result = [&] {
    EXPECT_EQ(cudaMemcpyAsync(out.data(), c, 256, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    return out;
  };
  CHECK_CUDA(cudaMemcpyAsync(a, ones.data(), 256, cudaMemcpyHostToDevice, stream));
  product();
  EXPECT_EQ(result(), std::vector<float>(64, 16.0f));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  product();
  CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
  CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
  EXPECT_EQ(out, std::vector<float>(64, 16.0f));
  for (const float want : {64.0f, 256.0f}) {  // A is doubled by every replay
    CHECK_CUDA(cudaGraphLaunch(exec, stream));
    EXPECT_EQ(result(), std::vector<float>(64, want));
  }
  CHECK_CUDA(cudaGraphExecDestroy(exec));
  CHECK_CUDA(cudaGraphDestroy(graph));
  for (void* p : {static_cast<void*>(a), static_cast<void*>(c), scratch}) CHECK_CUDA(cudaFree(p));
}

TEST_F(Blas, HandlesAndRefusals) {
  const auto get_stream = library.get<decltype(&cublasGetStream_v2)>("cublasGetStream_v2");
  const auto set_math = library.get<decltype(&cublasSetMathMode)>("cublasSetMathMode");
  const auto get_math = library.get<decltype(&cublasGetMathMode)>("cublasGetMathMode");
  const auto sgemm = library.get<decltype(&cublasSgemm_v2)>("cublasSgemm_v2");
  const auto version = library.get<decltype(&cublasGetVersion_v2)>("cublasGetVersion_v2");
  cudaStream_t given = nullptr;
  EXPECT_EQ(get_stream(handle, &given), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(given, stream);
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  EXPECT_EQ(set_math(handle, CUBLAS_TF32_TENSOR_OP_MATH), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(get_math(handle, &math), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(math, CUBLAS_TF32_TENSOR_OP_MATH);
  int number = 0;
  EXPECT_EQ(version(handle, &number), CUBLAS_STATUS_SUCCESS);
  EXPECT_GE(number, 130000);
  const float one = 1, zero = 0;
  EXPECT_EQ(sgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, -1, 8, 8, &one, nullptr, 8, nullptr, 8, &zero,
                  nullptr, 8),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(sgemm(nullptr, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, nullptr, 8, nullptr, 8, &zero,
                  nullptr, 8),
            CUBLAS_STATUS_NOT_INITIALIZED);
}

// --- the driver

class Driver : public testing::Test {
 protected:
  void SetUp() override {
    if (!library.open()) GTEST_SKIP() << "no driver";
    ASSERT_EQ(library.get<decltype(&cuInit)>("cuInit")(0), CUDA_SUCCESS);
  }
  Library library{"libcuda.so.1"};
};

TEST_F(Driver, AgreesWithTheRuntimeOnDevices) {
  int count = 0, runtime_count = 0, version = 0;
  ASSERT_EQ(library.get<decltype(&cuDeviceGetCount)>("cuDeviceGetCount")(&count), CUDA_SUCCESS);
  CHECK_CUDA(cudaGetDeviceCount(&runtime_count));
  EXPECT_EQ(count, runtime_count);
  EXPECT_EQ(library.get<decltype(&cuDriverGetVersion)>("cuDriverGetVersion")(&version),
            CUDA_SUCCESS);
  EXPECT_GE(version, CUDART_VERSION);
  const auto get = library.get<decltype(&cuDeviceGet)>("cuDeviceGet");
  for (int i = 0; i < count; ++i) {
    CUdevice device = -1;
    ASSERT_EQ(get(&device, i), CUDA_SUCCESS);
    cudaDeviceProp prop;
    CHECK_CUDA(cudaGetDeviceProperties(&prop, i));
    char name[256] = "";
    EXPECT_EQ(library.get<decltype(&cuDeviceGetName)>("cuDeviceGetName")(name, 256, device),
              CUDA_SUCCESS);
    EXPECT_STREQ(name, prop.name);
    size_t bytes = 0;
    EXPECT_EQ(library.get<decltype(&cuDeviceTotalMem_v2)>("cuDeviceTotalMem_v2")(&bytes, device),
              CUDA_SUCCESS);
    EXPECT_EQ(bytes, prop.totalGlobalMem);
    const auto attribute = [&](CUdevice_attribute which) {
      int v = -1;
      EXPECT_EQ(
          library.get<decltype(&cuDeviceGetAttribute)>("cuDeviceGetAttribute")(&v, which, device),
          CUDA_SUCCESS);
      return v;
    };
    EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR), prop.major);
    EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR), prop.minor);
    EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), prop.multiProcessorCount);
    EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE), 32);
    EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK), prop.maxThreadsPerBlock);
    EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
              static_cast<int>(prop.sharedMemPerBlockOptin));
    EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
              static_cast<int>(prop.sharedMemPerMultiprocessor));
    EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE), prop.l2CacheSize);
  }
  CUdevice device = -1;
  EXPECT_EQ(get(&device, count), CUDA_ERROR_INVALID_DEVICE);
  EXPECT_EQ(get(&device, -1), CUDA_ERROR_INVALID_DEVICE);
}

TEST_F(Driver, FollowsTheRuntimesCurrentDevice) {
  int count = 0;
  CHECK_CUDA(cudaGetDeviceCount(&count));
  std::vector<CUcontext> contexts;
  for (int i = 0; i < count; ++i) {
    CHECK_CUDA(cudaSetDevice(i));
    CHECK_CUDA(cudaFree(nullptr));  // makes the context
    CUdevice device = -1;
    CUcontext context = nullptr;
    EXPECT_EQ(library.get<decltype(&cuCtxGetDevice)>("cuCtxGetDevice")(&device), CUDA_SUCCESS);
    EXPECT_EQ(device, i);
    EXPECT_EQ(library.get<decltype(&cuCtxGetCurrent)>("cuCtxGetCurrent")(&context), CUDA_SUCCESS);
    EXPECT_NE(context, nullptr);
    for (const CUcontext other : contexts) EXPECT_NE(context, other);
    contexts.push_back(context);
  }
  CHECK_CUDA(cudaSetDevice(0));
  float* data = nullptr;
  CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&data), 256));
  CHECK_CUDA(cudaMemset(data, 0, 256));
  launch_scale(data, 2, 64, nullptr);
  EXPECT_EQ(library.get<CUresult (*)()>("cuCtxSynchronize")(), CUDA_SUCCESS);
  CHECK_CUDA(cudaFree(data));
}

TEST_F(Driver, KnowsPointers) {
  const auto ask = library.get<decltype(&cuPointerGetAttribute)>("cuPointerGetAttribute");
  float* device = nullptr;
  void *pinned = nullptr, *managed = nullptr;
  CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&device), 256));
  CHECK_CUDA(cudaMallocHost(&pinned, 256));
  CHECK_CUDA(cudaMallocManaged(&managed, 256, cudaMemAttachGlobal));
  const auto type_of = [&](void* p) {
    unsigned type = 0;
    EXPECT_EQ(ask(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(p)),
              CUDA_SUCCESS);
    return type;
  };
  EXPECT_EQ(type_of(device), static_cast<unsigned>(CU_MEMORYTYPE_DEVICE));
  EXPECT_EQ(type_of(device + 7), static_cast<unsigned>(CU_MEMORYTYPE_DEVICE));
  EXPECT_EQ(type_of(pinned), static_cast<unsigned>(CU_MEMORYTYPE_HOST));
  unsigned is_managed = 7;  // the driver writes a boolean as an unsigned int
  EXPECT_EQ(
      ask(&is_managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, reinterpret_cast<CUdeviceptr>(managed)),
      CUDA_SUCCESS);
  EXPECT_EQ(is_managed & 255, 1u);
  int ordinal = -1;
  EXPECT_EQ(
      ask(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, reinterpret_cast<CUdeviceptr>(device)),
      CUDA_SUCCESS);
  EXPECT_EQ(ordinal, 0);
  int local = 0;
  EXPECT_EQ(
      ask(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, reinterpret_cast<CUdeviceptr>(&local)),
      CUDA_ERROR_INVALID_VALUE);
  CHECK_CUDA(cudaFree(device));
  CHECK_CUDA(cudaFree(managed));
  CHECK_CUDA(cudaFreeHost(pinned));
}

TEST_F(Driver, NamesErrors) {
  const auto name = library.get<decltype(&cuGetErrorName)>("cuGetErrorName");
  const auto text = library.get<decltype(&cuGetErrorString)>("cuGetErrorString");
  const std::pair<CUresult, const char*> rows[] = {
      {CUDA_SUCCESS, "CUDA_SUCCESS"},
      {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
      {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
      {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
      {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
      {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
  };
  for (const auto& [error, want] : rows) {
    const char* got = nullptr;
    EXPECT_EQ(name(error, &got), CUDA_SUCCESS);
    EXPECT_STREQ(got, want);
    got = nullptr;
    EXPECT_EQ(text(error, &got), CUDA_SUCCESS);
    EXPECT_STREQ(got, cudaGetErrorString(static_cast<cudaError_t>(error)));
  }
  const char* got = "";
  EXPECT_EQ(name(static_cast<CUresult>(123456), &got), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(got, nullptr);
}

TEST_F(Driver, IsReachedThroughTheRuntime) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult status{};
  CHECK_CUDA(cudaGetDriverEntryPointByVersion("cuDeviceGetCount", &function, 12000,
                                              cudaEnableDefault, &status));
  EXPECT_EQ(status, cudaDriverEntryPointSuccess);
  ASSERT_NE(function, nullptr);
  int count = 0, want = 0;
  EXPECT_EQ(reinterpret_cast<CUresult (*)(int*)>(function)(&count), CUDA_SUCCESS);
  CHECK_CUDA(cudaGetDeviceCount(&want));
  EXPECT_EQ(count, want);
  CHECK_CUDA(cudaGetDriverEntryPointByVersion("cuNoSuchCall", &function, 12000, cudaEnableDefault,
                                              &status));
  EXPECT_EQ(status, cudaDriverEntryPointSymbolNotFound);
}

}  // namespace
}  // namespace vgpu::test
