// A stand-in for the cuBLASLt calls that the project makes. It takes no less than the library's
// documentation asks for: what a real one refuses, or must not be handed, is refused here with a
// line on stderr.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "cublas/gemm.h"

#define VGPU_EXPORT extern "C" __attribute__((visibility("default")))

using namespace vgpu;

extern "C" void* __cudaVgpuView(const void* device, size_t bytes, u64** defined, u64* offset);

struct cublasLtContext {
  int device = 0;
};

namespace {

// Why a call is refused.
__attribute__((format(printf, 2, 3))) cublasStatus_t refuse(cublasStatus_t status,
                                                            const char* words, ...) {
  std::fputs("vgpu: cublasLt: ", stderr);
  va_list arguments;
  va_start(arguments, words);
  std::vfprintf(stderr, words, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  return status;
}

// What stands in the opaque structs, each with a mark of its own.
struct Layout {
  static constexpr u32 kMark = 0x4c41594f;
  u32 mark = kMark;
  cudaDataType_t type{};
  u64 rows = 0, columns = 0;
  i64 ld = 0, step = 0;
  i32 count = 1;
  i32 order = CUBLASLT_ORDER_COL;

  // Elements from the first to behind the last.
  i64 extent() const {
    return static_cast<i64>(columns - 1) * ld + static_cast<i64>(rows) + (count - 1) * step;
  }
};

struct Operation {
  static constexpr u32 kMark = 0x4f504552;
  u32 mark = kMark;
  cublasComputeType_t compute{};
  cudaDataType_t scale{};
  i32 transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  u32 epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  i64 bias_step = 0;
};

struct Preference {
  static constexpr u32 kMark = 0x50524546;
  u32 mark = kMark;
  u32 reduction = CUBLASLT_REDUCTION_SCHEME_MASK;
  u64 workspace = 0;
  u32 a = 256, b = 256, c = 256, d = 256;  // least alignments
};

// All that the heuristics were told: a product that differs is not the algorithm's.
struct Algorithm {
  static constexpr u32 kMark = 0x414c474f;
  u32 mark = kMark;
  u32 product = 0;  // a hash of the operation and the layouts
  u64 workspace = 0;
  u32 a = 0, b = 0, c = 0, d = 0, bias = 0;  // least alignments
};

template <class Inside, class Opaque>
Inside get(const Opaque* from) {
  static_assert(sizeof(Inside) <= sizeof(Opaque) && std::is_trivially_copyable_v<Inside>);
  Inside out;
  std::memcpy(static_cast<void*>(&out), from, sizeof out);
  return out;
}
template <class Inside, class Opaque>
void put(const Inside& from, Opaque* to) {
  static_assert(sizeof(Inside) <= sizeof(Opaque));
  std::memcpy(to, &from, sizeof from);
}

template <class Inside, class Opaque>
cublasStatus_t init(Opaque* to, size_t size, const Inside& value) {
  if (to == nullptr || size < sizeof(Opaque)) return CUBLAS_STATUS_ALLOC_FAILED;
  std::memset(to, 0, size);
  put(value, to);
  return CUBLAS_STATUS_SUCCESS;
}

template <class Field>
cublasStatus_t set(Field* field, const void* value, size_t size) {
  if (value == nullptr || size != sizeof *field)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "an attribute has %zu bytes, %zu are given",
                  sizeof *field, size);
  std::memcpy(field, value, size);
  return CUBLAS_STATUS_SUCCESS;
}

bool is_float(cudaDataType_t type) {
  return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

u32 alignment(const void* pointer) {
  const auto bits = reinterpret_cast<uintptr_t>(pointer) | 256;
  return u32{1} << std::countr_zero(bits);
}

// FNV-1a, of values that have no padding.
struct Hash {
  u32 value = 0x811c9dc5;
  template <class... Values>
  void add(const Values&... values) {
    const auto one = [this](u64 word) {
      for (int byte = 0; byte < 8; ++byte) value = (value ^ (word >> 8 * byte & 0xff)) * 0x01000193;
    };
    (one(static_cast<u64>(values)), ...);
  }
};

// A product as it was described, after its checks.
struct Product {
  Operation operation;
  Layout a, b, c, d;
  i64 m = 0, n = 0, k = 0;

  u32 hash() const {
    Hash out;
    out.add(operation.compute, operation.scale, operation.transpose_a, operation.transpose_b,
            operation.epilogue, operation.bias_step);
    for (const Layout& one : {a, b, c, d})
      out.add(one.type, one.rows, one.columns, one.ld, one.step, one.count);
    return out.value;
  }
};

cublasStatus_t check(const char* name, const Layout& layout, bool output) {
  if (layout.mark != Layout::kMark)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the layout of %s is not initialised", name);
  if (layout.order != CUBLASLT_ORDER_COL)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "%s is not column-major", name);
  if (layout.rows == 0 || layout.columns == 0 || layout.count < 1)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s is empty", name);
  if (layout.rows > INT32_MAX || layout.columns > INT32_MAX)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "%s is too large", name);
  if (layout.ld < static_cast<i64>(layout.rows))
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s has %llu rows and leading dimension %lld", name,
                  static_cast<unsigned long long>(layout.rows), static_cast<long long>(layout.ld));
  if (layout.step < 0)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "matrices of %s lie backwards", name);
  // Matrices of an output may lie between each other's columns, but not on each other.
  const i64 height = static_cast<i64>(layout.rows),
            whole = (static_cast<i64>(layout.columns) - 1) * layout.ld + height;
  const bool between = layout.columns > 1 && layout.step >= height &&
                       (layout.count - 1) * layout.step + height <= layout.ld;
  if (output && layout.count > 1 && layout.step < whole && !between)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "matrices of %s overlap", name);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t describe(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                        cublasLtMatrixLayout_t d, Product* out) {
  if (operation == nullptr || a == nullptr || b == nullptr || c == nullptr || d == nullptr)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "a description is missing");
  Product& p = *out;
  p = {get<Operation>(operation), get<Layout>(a), get<Layout>(b), get<Layout>(c), get<Layout>(d)};
  if (p.operation.mark != Operation::kMark)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the operation is not initialised");
  for (const auto& [name, layout, output] :
       {std::tuple{"A", p.a, false}, std::tuple{"B", p.b, false}, std::tuple{"C", p.c, false},
        std::tuple{"D", p.d, true}})
    if (const auto status = check(name, layout, output)) return status;

  // The documentation's table of types, as far as the project goes.
  if (p.operation.compute != CUBLAS_COMPUTE_32F || p.operation.scale != CUDA_R_32F)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "sums are not in fp32");
  if (!is_float(p.a.type) || p.a.type != p.b.type || p.c.type != p.d.type ||
      (p.d.type != p.a.type && p.d.type != CUDA_R_32F))
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "no product of these types");

  const bool ta = p.operation.transpose_a != CUBLAS_OP_N,
             tb = p.operation.transpose_b != CUBLAS_OP_N;
  p.m = static_cast<i64>(ta ? p.a.columns : p.a.rows);
  p.k = static_cast<i64>(ta ? p.a.rows : p.a.columns);
  p.n = static_cast<i64>(tb ? p.b.rows : p.b.columns);
  const auto k = static_cast<i64>(tb ? p.b.columns : p.b.rows);
  if (k != p.k || p.m != static_cast<i64>(p.d.rows) || p.n != static_cast<i64>(p.d.columns) ||
      p.c.rows != p.d.rows || p.c.columns != p.d.columns)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the matrices' sizes do not fit each other");
  if (p.a.count != p.d.count || p.b.count != p.d.count || p.c.count != p.d.count)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "A, B, C and D are not as many matrices");

  const u32 epilogue = p.operation.epilogue;
  if (epilogue != CUBLASLT_EPILOGUE_DEFAULT && epilogue != CUBLASLT_EPILOGUE_BIAS)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the stand-in has no epilogue %u", epilogue);
  const bool bias = epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (bias && p.operation.bias == nullptr)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the bias has no address");
  if (bias && alignment(p.operation.bias) < element_bytes(p.d.type))
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the bias is not aligned to its elements");
  return CUBLAS_STATUS_SUCCESS;
}

bool on_device(const void* pointer, i64 elements, cudaDataType_t type) {
  u64* map = nullptr;
  u64 offset = 0;
  return pointer != nullptr &&
         __cudaVgpuView(pointer, static_cast<size_t>(elements) * element_bytes(type), &map,
                        &offset) != nullptr;
}

// Of an address, against what the algorithm was chosen for.
cublasStatus_t check_address(const char* name, const void* pointer, i64 elements,
                             cudaDataType_t type, u32 least) {
  if (!on_device(pointer, elements, type))
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s is not in device memory, or beyond its end",
                  name);
  if (alignment(pointer) < least)
    return refuse(CUBLAS_STATUS_INVALID_VALUE,
                  "%s is aligned to %u bytes, the algorithm was chosen for %u", name,
                  alignment(pointer), least);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t check_handle(cublasLtHandle_t handle) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  int device = -1;
  if (cudaGetDevice(&device) != cudaSuccess) return CUBLAS_STATUS_INTERNAL_ERROR;
  if (device != handle->device)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "a handle of device %d is used on device %d",
                  handle->device, device);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

VGPU_EXPORT cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext{device};
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_EXPORT size_t cublasLtGetVersion() { return CUBLAS_VERSION; }
VGPU_EXPORT const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "not initialised";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an invalid value";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "not supported";
    default:
      return "failure";
  }
}
VGPU_EXPORT const char* cublasLtGetStatusName(cublasStatus_t status) {
  return cublasLtGetStatusString(status);
}

VGPU_EXPORT cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout,
                                                             size_t size, cudaDataType type,
                                                             u64 rows, u64 columns, i64 ld) {
  Layout inside;
  inside.type = type;
  inside.rows = rows, inside.columns = columns, inside.ld = ld;
  return init(layout, size, inside);
}
VGPU_EXPORT cublasStatus_t cublasLtMatrixLayoutSetAttribute(
    cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, const void* value,
    size_t size) {
  auto inside = get<Layout>(layout);
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      status = set(&inside.count, value, size);
      break;
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      status = set(&inside.step, value, size);
      break;
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      status = set(&inside.order, value, size);
      break;
    default:
      return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the stand-in has no layout attribute %d",
                    attribute);
  }
  put(inside, layout);
  return status;
}

VGPU_EXPORT cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t operation,
                                                           size_t size, cublasComputeType_t compute,
                                                           cudaDataType_t scale) {
  Operation inside;
  inside.compute = compute, inside.scale = scale;
  return init(operation, size, inside);
}
VGPU_EXPORT cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                                          cublasLtMatmulDescAttributes_t attribute,
                                                          const void* value, size_t size) {
  auto inside = get<Operation>(operation);
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      status = set(&inside.transpose_a, value, size);
      break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
      status = set(&inside.transpose_b, value, size);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      status = set(&inside.epilogue, value, size);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      status = set(&inside.bias, value, size);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      status = set(&inside.bias_step, value, size);
      break;
    default:
      return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the stand-in has no operation attribute %d",
                    attribute);
  }
  put(inside, operation);
  return status;
}

VGPU_EXPORT cublasStatus_t
cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t size) {
  return init(preference, size, Preference{});
}
VGPU_EXPORT cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
    const void* value, size_t size) {
  auto inside = get<Preference>(preference);
  u32* least = nullptr;
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      status = set(&inside.workspace, value, size);
      break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      status = set(&inside.reduction, value, size);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      least = &inside.a;
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      least = &inside.b;
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      least = &inside.c;
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      least = &inside.d;
      break;
    default:
      return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the stand-in has no preference %d", attribute);
  }
  if (least != nullptr) status = set(least, value, size);
  if (least != nullptr && !std::has_single_bit(*least))
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "an alignment of %u bytes", *least);
  put(inside, preference);
  return status;
}

// One algorithm, which splits long sums where it may: then it has work to lay down.
VGPU_EXPORT cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t results[],
    int* found) {
  if (const auto status = check_handle(handle)) return status;
  if (wanted < 1 || results == nullptr || found == nullptr || preference == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  const auto how = get<Preference>(preference);
  if (how.mark != Preference::kMark)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the preference is not initialised");
  *found = 0;
  Product product;
  if (const auto status = describe(operation, a, b, c, d, &product)) return status;
  for (const auto& [name, least, type] :
       {std::tuple{"A", how.a, product.a.type}, std::tuple{"B", how.b, product.b.type},
        std::tuple{"C", how.c, product.c.type}, std::tuple{"D", how.d, product.d.type}})
    if (least < element_bytes(type))
      return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s is not aligned to its elements", name);

  Algorithm algorithm;
  algorithm.product = product.hash();
  algorithm.a = how.a, algorithm.b = how.b, algorithm.c = how.c, algorithm.d = how.d;
  if (product.operation.epilogue == CUBLASLT_EPILOGUE_BIAS)
    algorithm.bias = std::min(alignment(product.operation.bias), u32{16});
  constexpr i64 kLongSum = 128;
  const bool splits = (how.reduction & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0;
  const u64 parts = static_cast<u64>(product.m) * static_cast<u64>(product.n) *
                    static_cast<u64>(product.d.count) * 2 * sizeof(float);
  if (splits && product.k >= kLongSum && parts <= how.workspace) algorithm.workspace = parts;
  cublasLtMatmulHeuristicResult_t& result = results[0];
  result = {};
  put(algorithm, &result.algo);
  result.workspaceSize = algorithm.workspace;
  result.state = CUBLAS_STATUS_SUCCESS;
  result.wavesCount = 1;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

VGPU_EXPORT cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                          const void* alpha, const void* a,
                                          cublasLtMatrixLayout_t a_layout, const void* b,
                                          cublasLtMatrixLayout_t b_layout, const void* beta,
                                          const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                                          cublasLtMatrixLayout_t d_layout,
                                          const cublasLtMatmulAlgo_t* algo, void* workspace,
                                          size_t workspace_bytes, cudaStream_t stream) {
  if (const auto status = check_handle(handle)) return status;
  if (alpha == nullptr || beta == nullptr)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "alpha or beta has no address");
  Product p;
  if (const auto status = describe(operation, a_layout, b_layout, c_layout, d_layout, &p))
    return status;
  if (algo == nullptr)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the stand-in chooses no algorithm in a run");
  const auto algorithm = get<Algorithm>(algo);
  if (algorithm.mark != Algorithm::kMark || algorithm.product != p.hash())
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the algorithm was chosen for another product");
  for (const auto& [name, pointer, layout, least] :
       {std::tuple{"A", a, p.a, algorithm.a}, std::tuple{"B", b, p.b, algorithm.b},
        std::tuple{"C", c, p.c, algorithm.c},
        std::tuple{"D", static_cast<const void*>(d), p.d, algorithm.d}})
    if (const auto status = check_address(name, pointer, layout.extent(), layout.type, least))
      return status;
  const bool bias = p.operation.epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (bias) {
    const i64 elements = p.m + (p.d.count - 1) * p.operation.bias_step;
    if (const auto status =
            check_address("the bias", p.operation.bias, elements, p.d.type, algorithm.bias))
      return status;
  }
  if (c == d && (p.c.ld != p.d.ld || p.c.step != p.d.step))
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "C and D are one, but lie otherwise");
  if (algorithm.workspace > workspace_bytes)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "%llu bytes of workspace are needed, %zu given",
                  static_cast<unsigned long long>(algorithm.workspace), workspace_bytes);
  if (algorithm.workspace > 0) {
    if (!on_device(workspace, static_cast<i64>(workspace_bytes / sizeof(float)), CUDA_R_32F))
      return refuse(CUBLAS_STATUS_INVALID_VALUE, "the workspace is not in device memory");
    if (alignment(workspace) < 16)
      return refuse(CUBLAS_STATUS_INVALID_VALUE, "the workspace is not aligned to 16 bytes");
    // What lies there afterwards is nobody's.
    if (cudaMemsetAsync(workspace, 0x7f, algorithm.workspace, stream) != cudaSuccess)
      return CUBLAS_STATUS_EXECUTION_FAILED;
  }

  Gemm gemm{p.operation.transpose_a != CUBLAS_OP_N,
            p.operation.transpose_b != CUBLAS_OP_N,
            p.m,
            p.n,
            p.k,
            *static_cast<const float*>(alpha),
            *static_cast<const float*>(beta),
            a,
            b,
            d,
            p.a.type,
            p.b.type,
            p.d.type,
            p.a.ld,
            p.b.ld,
            p.d.ld,
            p.a.step,
            p.b.step,
            p.d.step,
            p.d.count};
  if (gemm.beta != 0 && c != d)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the stand-in adds to D alone");
  if (bias) gemm.bias = p.operation.bias, gemm.stride_bias = p.operation.bias_step;
  return enqueue(stream, gemm) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                              : CUBLAS_STATUS_EXECUTION_FAILED;
}
