#include "bench/baselines/cublas_attention.h"

#include <cublas_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "bench/baselines/best_rows.h"
#include "bench/baselines/shared_library.h"
#include "bench/baselines/softmax_rows.h"
#include "host/ops/attention/problem.h"

namespace qkv::bench {
namespace {

constexpr size_t kCublasWorkspace = size_t{32} << 20;  // what NVIDIA recommends for Hopper

// Written out because the header overloads it: matrices A, B and C each with type, leading
// dimension and stride.
using GemmStridedBatchedEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t,
                                                cublasOperation_t, int m, int n, int k,
                                                const void* alpha, const void* a, cudaDataType_t,
                                                int, long long, const void* b, cudaDataType_t, int,
                                                long long, const void* beta, void* c,
                                                cudaDataType_t, int, long long, int batches,
                                                cublasComputeType_t, cublasGemmAlgo_t);

// cuBLAS's functions, or why there are none.
struct Cublas {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  GemmStridedBatchedEx gemm = nullptr;
  std::string missing;

  Cublas() {
    void* const library =
        open_library(library_files("QKV_CUBLAS", {"libcublas.so.13", "libcublas.so.12"},
                                   "libcublas.so.1[23]", {"cu13", "cublas"}),
                     &missing);
    if (library == nullptr) {
      missing = "cuBLAS not found (QKV_CUBLAS names it): " + missing;
      return;
    }
    load(library, "cublasCreate_v2", &create);
    load(library, "cublasDestroy_v2", &destroy);
    load(library, "cublasSetStream_v2", &set_stream);
    load(library, "cublasSetWorkspace_v2", &set_workspace);
    load(library, "cublasGemmStridedBatchedEx", &gemm);
  }

 private:
  template <class Function>
  void load(void* library, const char* name, Function* function) {
    *function = reinterpret_cast<Function>(dlsym(library, name));
    if (*function == nullptr) missing = std::string("cuBLAS has no ") + name;
  }
};

const Cublas& cublas() {
  static const Cublas instance;
  return instance;
}

cudaDataType_t cuda_type(qkv_type type) {
  return type == QKV_TYPE_F32 ? CUDA_R_32F : type == QKV_TYPE_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

// What the steps share: the grouping of query heads and the layout of the workspace.
struct Layout {
  int64_t group, rows, pitch;
  qkv_type s_type;
  size_t s, p, bytes;  // offsets in the workspace; p == s where P takes S's place

  Layout(const Unfused& problem, const CublasAttention::Options& options)
      : group(problem.heads_q / problem.heads_kv),
        rows(problem.batch * problem.heads_q * problem.s_q),
        pitch((problem.s_kv + kSoftmaxPitch - 1) / kSoftmaxPitch * kSoftmaxPitch),
        s_type(options.fp32_scores ? QKV_TYPE_F32 : problem.type),
        s(kCublasWorkspace),
        p(s_type == problem.type ? s : s + matrix_bytes(s_type)),
        bytes(p + matrix_bytes(problem.type)) {}

 private:
  size_t matrix_bytes(qkv_type type) const {
    return static_cast<size_t>((rows * pitch * host::type_size(type) + 255) / 256 * 256);
  }
};

cublasComputeType_t compute_type(const Unfused& p, const CublasAttention::Options& options) {
  return options.tf32 && p.type == QKV_TYPE_F32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

std::string failure(const char* what, int code) {
  return std::string(what) + " failed with " + std::to_string(code);
}

}  // namespace

std::string CublasAttention::available() { return cublas().missing; }

CublasAttention::CublasAttention(const Unfused& problem) : CublasAttention(problem, Options()) {}

CublasAttention::CublasAttention(const Unfused& problem, Options options)
    : problem_(problem), options_(options) {}

CublasAttention::~CublasAttention() {
  if (handle_ != nullptr) cublas().destroy(static_cast<cublasHandle_t>(handle_));
}

size_t CublasAttention::workspace_bytes() const { return Layout(problem_, options_).bytes; }

std::string CublasAttention::prepare(void* workspace, void* stream) {
  if (!available().empty()) return available();
  auto handle = static_cast<cublasHandle_t>(handle_);
  if (handle == nullptr) {
    if (const int code = cublas().create(&handle)) return failure("cublasCreate", code);
    handle_ = handle;
  }
  // In this order: cublasSetStream returns the workspace to the library's own.
  if (const int code = cublas().set_stream(handle, static_cast<cudaStream_t>(stream)))
    return failure("cublasSetStream", code);
  if (const int code = cublas().set_workspace(handle, workspace, kCublasWorkspace))
    return failure("cublasSetWorkspace", code);
  return "";
}

// Column-major: y^T = W x^T, a product for each head, which all have the same x.
std::string CublasAttention::multiply(const Product& p, void* workspace, void* stream) {
  if (std::string wrong = prepare(workspace, stream); !wrong.empty()) return wrong;
  if (std::max({p.rows, p.in, p.dim, p.ld, p.heads}) > std::numeric_limits<int>::max())
    return "the product is too large for cuBLAS's 32-bit interface";
  const cudaDataType_t type = cuda_type(problem_.type);
  const auto n = [](int64_t size) { return static_cast<int>(size); };
  const float one = 1, zero = 0;
  const int code =
      cublas().gemm(static_cast<cublasHandle_t>(handle_), p.in_out ? CUBLAS_OP_N : CUBLAS_OP_T,
                    CUBLAS_OP_N, n(p.dim), n(p.rows), n(p.in), &one, p.weight, type, n(p.ld),
                    p.in_out ? p.dim : p.dim * p.ld, p.x, type, n(p.in), 0, &zero, p.y, type,
                    n(p.dim), p.rows * p.dim, n(p.heads), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  return code == 0 ? "" : failure("a projection by cublasGemmStridedBatchedEx", code);
}

// cuBLAS is column-major, so it sees every matrix transposed: S^T = K Q^T and O^T = V^T P^T. The
// query heads of a group lie one after the other and share K and V: together they are one matrix
// of group * s_q rows.
std::string CublasAttention::run_scores(const void* q, const void* k, void* workspace,
                                        void* stream) {
  if (!available().empty()) return available();
  const Unfused& p = problem_;
  const Layout layout(p, options_);
  if (p.s_kv == 0 || layout.rows == 0) return "the unfused baseline needs a query and a key";
  if (std::max({layout.group * p.s_q, layout.pitch, p.batch * p.heads_kv}) >
      std::numeric_limits<int>::max())
    return "the problem is too large for cuBLAS's 32-bit interface";
  if (std::string wrong = prepare(workspace, stream); !wrong.empty()) return wrong;

  void* const gS = static_cast<char*>(workspace) + layout.s;
  const cudaDataType_t type = cuda_type(p.type), s_type = cuda_type(layout.s_type);
  const auto pairs = static_cast<int>(p.batch * p.heads_kv);
  const int64_t rows = layout.group * p.s_q;
  const auto d_qk = static_cast<int>(p.d_qk);
  const float zero = 0;
  const int code = cublas().gemm(
      static_cast<cublasHandle_t>(handle_), CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(p.s_kv),
      static_cast<int>(rows), d_qk, &p.scale, k, type, d_qk, p.s_kv * p.d_qk, q, type, d_qk,
      rows * p.d_qk, &zero, gS, s_type, static_cast<int>(layout.pitch), rows * layout.pitch, pairs,
      compute_type(p, options_), CUBLAS_GEMM_DEFAULT);
  return code == 0 ? "" : failure("Q K^T by cublasGemmStridedBatchedEx", code);
}

std::string CublasAttention::run(const void* q, const void* k, const void* v, void* o,
                                 void* workspace, void* stream) {
  const Unfused& p = problem_;
  if (p.best > 1 || (p.best == 1 && !options_.fp32_scores))
    return "the unfused GPU baseline has no top-k selection, and hard selection on fp32 scores "
           "only";
  if (std::string wrong = run_scores(q, k, workspace, stream); !wrong.empty()) return wrong;
  const Layout layout(p, options_);
  auto* const base = static_cast<char*>(workspace);
  void *const gS = base + layout.s, *const gP = base + layout.p;
  if (p.best == 1) {
    const int code =
        launch_best_rows(p, static_cast<const float*>(gS), v, o, layout.rows, layout.pitch, stream);
    return code == 0 ? "" : failure("best_rows", code);
  }
  if (const int code =
          launch_softmax_rows(p, gS, layout.s_type, gP, p.type, layout.rows, layout.pitch, stream))
    return failure("softmax_rows", code);

  const cudaDataType_t type = cuda_type(p.type);
  const auto pairs = static_cast<int>(p.batch * p.heads_kv);
  const int64_t rows = layout.group * p.s_q;
  const auto m_rows = static_cast<int>(rows), s_kv = static_cast<int>(p.s_kv);
  const auto d_v = static_cast<int>(p.d_v), pitch = static_cast<int>(layout.pitch);
  const float one = 1, zero = 0;
  if (const int code = cublas().gemm(
          static_cast<cublasHandle_t>(handle_), CUBLAS_OP_N, CUBLAS_OP_N, d_v, m_rows, s_kv, &one,
          v, type, d_v, p.s_kv * p.d_v, gP, type, pitch, rows * layout.pitch, &zero, o, type, d_v,
          rows * p.d_v, pairs, compute_type(p, options_), CUBLAS_GEMM_DEFAULT))
    return failure("P V by cublasGemmStridedBatchedEx", code);
  return "";
}

}  // namespace qkv::bench
