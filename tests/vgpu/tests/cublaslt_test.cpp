// cuBLASLt as qkv uses it: the stand-in under vgpu-run, the real one elsewhere. A product is
// checked against its definition, on numbers that keep sums exact; what the stand-in refuses, by a
// table.
#include <cublasLt.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace vgpu::test {
namespace {

#define CHECK_CUDA(call) ASSERT_EQ(cudaSuccess, (call)) << cudaGetErrorString(cudaGetLastError())

struct Lt {
  explicit Lt(void* library) : library_(library) {}
  template <class F>
  F* get(const char* name) const {
    void* f = dlsym(library_, name);
    EXPECT_NE(f, nullptr) << name;
    return reinterpret_cast<F*>(f);
  }
#define LT(name) \
  decltype(::cublasLt##name)* const name = get<decltype(::cublasLt##name)>("cublasLt" #name)

 private:
  void* library_;

 public:
  LT(Create);
  LT(Destroy);
  LT(Matmul);
  LT(MatmulAlgoGetHeuristic);
  LT(MatmulDescInit_internal);
  LT(MatmulDescSetAttribute);
  LT(MatmulPreferenceInit_internal);
  LT(MatmulPreferenceSetAttribute);
  LT(MatrixLayoutInit_internal);
  LT(MatrixLayoutSetAttribute);
#undef LT
};

// D (m x n) = A^T B + bias, fp32, two matrices: what a test changes, and the memory of all of it.
struct Call {
  static constexpr int kM = 6, kN = 5, kK = 130, kCount = 2;  // sums long enough to be split

  int lda = kK, ldb = kK, ldd = kM;
  int64_t step_d = kM * kN;
  uint32_t alignment = 16;    // that the heuristics are told
  uint64_t workspace = 1024;  // that they may ask for
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType_t type_b = CUDA_R_32F;
  int rows_b = kK, count_b = kCount;
  uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  // Of the run alone.
  int64_t shift_a = 0;  // elements
  uint64_t given = 1024;
  bool host_bias = false, host_workspace = false, other_product = false, no_algorithm = false;
  int64_t past_the_end = 0;  // elements that D begins later
};

class CublasLt : public testing::Test {
 protected:
  void SetUp() override {
    library_ = dlopen(VGPU_CUBLASLT, RTLD_NOW);
    if (library_ == nullptr) GTEST_SKIP() << dlerror();
    for (auto [memory, count] :
         {std::pair{&a_, 2 * Call::kM * Call::kK + 4}, std::pair{&b_, 2 * Call::kN * Call::kK},
          std::pair{&bias_, 2 * Call::kM}, std::pair{&d_, 2 * Call::kM * Call::kN},
          std::pair{&workspace_, 256}}) {
      CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(memory), static_cast<size_t>(count) * 4));
      CHECK_CUDA(cudaMemset(*memory, 0, static_cast<size_t>(count) * 4));
    }
  }
  void TearDown() override {
    for (float* memory : {a_, b_, bias_, d_, workspace_}) (void)cudaFree(memory);
  }
  bool stand_in() const { return dlsym(RTLD_DEFAULT, "__cudaVgpuCalls") != nullptr; }

  // The first status that is not success.
  cublasStatus_t run(const Call& call) {
    const Lt lt(library_);
    cublasLtHandle_t handle = nullptr;
    if (const auto status = lt.Create(&handle)) return status;
    const cublasStatus_t status = run(lt, handle, call);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    lt.Destroy(handle);
    return status;
  }

  void* library_ = nullptr;
  float *a_ = nullptr, *b_ = nullptr, *bias_ = nullptr, *d_ = nullptr, *workspace_ = nullptr;
  float host_[256] = {};

 private:
#define TRY(call) \
  if (const cublasStatus_t status = (call)) return status

  template <class Set, class Object, class Attribute, class Value>
  static cublasStatus_t set(Set* set, Object* object, Attribute attribute, Value value) {
    return set(object, attribute, &value, sizeof value);
  }

  static cublasStatus_t layout(const Lt& lt, cublasLtMatrixLayoutOpaque_t* out, cudaDataType_t type,
                               int rows, int columns, int ld, int32_t count, int64_t step) {
    TRY(lt.MatrixLayoutInit_internal(out, sizeof *out, type, static_cast<uint64_t>(rows),
                                     static_cast<uint64_t>(columns), ld));
    TRY(set(lt.MatrixLayoutSetAttribute, out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count));
    return set(lt.MatrixLayoutSetAttribute, out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, step);
  }

  cublasStatus_t run(const Lt& lt, cublasLtHandle_t handle, const Call& c) {
    cublasLtMatmulDescOpaque_t operation{};
    TRY(lt.MatmulDescInit_internal(&operation, sizeof operation, c.compute, CUDA_R_32F));
    TRY(set(lt.MatmulDescSetAttribute, &operation, CUBLASLT_MATMUL_DESC_TRANSA,
            static_cast<int32_t>(CUBLAS_OP_T)));
    TRY(set(lt.MatmulDescSetAttribute, &operation, CUBLASLT_MATMUL_DESC_EPILOGUE, c.epilogue));
    const void* const bias = c.host_bias ? host_ : bias_;
    TRY(set(lt.MatmulDescSetAttribute, &operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
    TRY(set(lt.MatmulDescSetAttribute, &operation, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE,
            int64_t{Call::kM}));
    cublasLtMatrixLayoutOpaque_t a{}, b{}, d{};
    TRY(layout(lt, &a, CUDA_R_32F, Call::kK, Call::kM, c.lda, Call::kCount, Call::kM * Call::kK));
    TRY(layout(lt, &b, c.type_b, c.rows_b, Call::kN, c.ldb, c.count_b, Call::kN * Call::kK));
    TRY(layout(lt, &d, CUDA_R_32F, Call::kM, Call::kN, c.ldd, Call::kCount, c.step_d));
    cublasLtMatmulPreferenceOpaque_t preference{};
    TRY(lt.MatmulPreferenceInit_internal(&preference, sizeof preference));
    TRY(set(lt.MatmulPreferenceSetAttribute, &preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            c.workspace));
    TRY(set(lt.MatmulPreferenceSetAttribute, &preference,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, c.alignment));
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    TRY(lt.MatmulAlgoGetHeuristic(handle, &operation, &a, &b, &d, &d, &preference, 1, &best,
                                  &found));
    if (found < 1) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (c.other_product)  // whose matrices B are one
      TRY(layout(lt, &b, c.type_b, c.rows_b, Call::kN, c.ldb, c.count_b, 0));
    const float one = 1, zero = 0;
    float* const at = d_ + c.past_the_end;
    return lt.Matmul(handle, &operation, &one, a_ + c.shift_a, &a, b_, &b, &zero, at, &d, at, &d,
                     c.no_algorithm ? nullptr : &best.algo, c.host_workspace ? host_ : workspace_,
                     c.given, nullptr);
  }
#undef TRY
};

TEST_F(CublasLt, MultipliesAndAddsTheBias) {
  std::vector<float> a(2 * Call::kM * Call::kK), b(2 * Call::kN * Call::kK), bias(2 * Call::kM),
      d(2 * Call::kM * Call::kN);
  for (size_t n = 0; n < a.size(); ++n) a[n] = static_cast<float>(n * 7 % 11) - 5;
  for (size_t n = 0; n < b.size(); ++n) b[n] = static_cast<float>(n * 5 % 13) - 6;
  for (size_t n = 0; n < bias.size(); ++n) bias[n] = static_cast<float>(n);
  CHECK_CUDA(cudaMemcpy(a_, a.data(), a.size() * 4, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaMemcpy(b_, b.data(), b.size() * 4, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaMemcpy(bias_, bias.data(), bias.size() * 4, cudaMemcpyHostToDevice));
  ASSERT_EQ(run({}), CUBLAS_STATUS_SUCCESS);
  CHECK_CUDA(cudaMemcpy(d.data(), d_, d.size() * 4, cudaMemcpyDeviceToHost));
  for (size_t one = 0; one < 2; ++one)
    for (size_t i = 0; i < Call::kM; ++i)
      for (size_t j = 0; j < Call::kN; ++j) {
        float want = bias[one * Call::kM + i];
        for (size_t k = 0; k < Call::kK; ++k)
          want += a[(one * Call::kM + i) * Call::kK + k] * b[(one * Call::kN + j) * Call::kK + k];
        ASSERT_EQ(d[(one * Call::kN + j) * Call::kM + i], want) << one << " " << i << " " << j;
      }
}

TEST_F(CublasLt, RefusesWhatIsWrong) {
  if (!stand_in()) GTEST_SKIP() << "what a real library must not be handed";
  const struct {
    const char* what;
    cublasStatus_t status;
    void (*edit)(Call& c);
  } rows[] = {
      {"lda", CUBLAS_STATUS_INVALID_VALUE, [](Call& c) { c.lda = Call::kK - 1; }},
      {"ldb", CUBLAS_STATUS_INVALID_VALUE, [](Call& c) { c.ldb = Call::kK - 1; }},
      {"ldd", CUBLAS_STATUS_INVALID_VALUE, [](Call& c) { c.ldd = Call::kM - 1; }},
      {"outputs on each other", CUBLAS_STATUS_INVALID_VALUE,
       [](Call& c) { c.step_d = Call::kM * Call::kN - 1; }},
      {"sizes", CUBLAS_STATUS_INVALID_VALUE, [](Call& c) { c.rows_b = Call::kK - 1; }},
      {"counts", CUBLAS_STATUS_INVALID_VALUE, [](Call& c) { c.count_b = 1; }},
      {"types", CUBLAS_STATUS_NOT_SUPPORTED, [](Call& c) { c.type_b = CUDA_R_16F; }},
      {"sums in tf32", CUBLAS_STATUS_NOT_SUPPORTED,
       [](Call& c) { c.compute = CUBLAS_COMPUTE_32F_FAST_TF32; }},
      {"an epilogue", CUBLAS_STATUS_NOT_SUPPORTED,
       [](Call& c) { c.epilogue = CUBLASLT_EPILOGUE_GELU_BIAS; }},
      {"an alignment that is none", CUBLAS_STATUS_INVALID_VALUE, [](Call& c) { c.alignment = 12; }},
      {"an address less aligned than said", CUBLAS_STATUS_INVALID_VALUE,
       [](Call& c) { c.shift_a = 1; }},
      {"an output past its memory's end", CUBLAS_STATUS_INVALID_VALUE,
       [](Call& c) { c.past_the_end = 4; }},
      {"a bias in host memory", CUBLAS_STATUS_INVALID_VALUE, [](Call& c) { c.host_bias = true; }},
      {"a workspace in host memory", CUBLAS_STATUS_INVALID_VALUE,
       [](Call& c) { c.host_workspace = true; }},
      {"too little workspace", CUBLAS_STATUS_INVALID_VALUE, [](Call& c) { c.given = 64; }},
      {"another product's algorithm", CUBLAS_STATUS_INVALID_VALUE,
       [](Call& c) { c.other_product = true; }},
      {"no algorithm", CUBLAS_STATUS_NOT_SUPPORTED, [](Call& c) { c.no_algorithm = true; }},
  };
  for (const auto& row : rows) {
    Call call;
    row.edit(call);
    EXPECT_EQ(run(call), row.status) << row.what;
  }
  Call less;
  less.alignment = 4, less.shift_a = 1;
  EXPECT_EQ(run(less), CUBLAS_STATUS_SUCCESS) << "an address as aligned as said";
  less.workspace = less.given = 0;
  EXPECT_EQ(run(less), CUBLAS_STATUS_SUCCESS) << "without workspace nothing is split";
}

}  // namespace
}  // namespace vgpu::test
