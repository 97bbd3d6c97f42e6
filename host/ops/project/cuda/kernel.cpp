// cublaslt: NVIDIA's cuBLASLt, on any CUDA device. Its heuristics choose the algorithm once for
// each plan, which then runs it always: the same bits.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "host/core/plan.h"
#include "host/ops/project/cuda/batches.h"
#include "host/ops/project/cuda/cublaslt.h"
#include "host/ops/project/op.h"

namespace qkv::host::project {
namespace {

#if QKV_HAS_CUDA && QKV_HAS_CUBLASLT
// cuBLASLt's own descriptions, and what it chose.
struct Prepared {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatrixLayoutOpaque_t weight{}, x{}, y{};
  cublasLtMatmulAlgo_t algorithm{};
};
#else
struct Prepared {};
#endif

struct LtPlan : KernelPlan {
  Batches batches;
  Prepared prepared;

  std::string text() const override {
    const Batches& b = batches;
    return text_line("products", b.calls > 1 ? host::text(b.calls, " calls of ") : "", b.count,
                     " of ", b.rows, " x ", b.out, " x ", b.in, ", weight ",
                     b.transpose_weight ? "transposed" : "as it is");
  }
};

std::string lt_decline(const Problem& p, const DeviceInfo&) {
  return decline_batches(batches_of(p));
}

// Room for the parts of sums that are split: what NVIDIA recommends for the device. The product of
// few numbers splits nothing.
size_t workspace_of(const Problem& p, const DeviceInfo& device) {
  constexpr double kSmall = 1 << 20;  // multiply-adds
  const double work = static_cast<double>(p.batch) * static_cast<double>(p.rows) *
                      static_cast<double>(p.in) * static_cast<double>(p.out());
  if (work <= kSmall) return 0;
  return size_t{device.compute >= 90 ? 32U : 4U} << 20;
}

void lt_plan(const Problem& p, const DeviceInfo& device, LtPlan* plan) {
  plan->batches = batches_of(p);
  plan->workspace_bytes = workspace_of(p, device);
}

#if QKV_HAS_CUDA && QKV_HAS_CUBLASLT
// Of a call of cuBLASLt; what makes descriptions throws it.
struct Refusal {
  const char* call;
  cublasStatus_t status;
};

void check(const char* call, cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) throw Refusal{call, status};
}

cudaDataType_t cuda_type(qkv_type type) {
  return type == QKV_TYPE_F32 ? CUDA_R_32F : type == QKV_TYPE_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

template <class Value>
void set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, Value value) {
  check("cublasLtMatrixLayoutSetAttribute",
        cublaslt().MatrixLayoutSetAttribute(layout, attribute, &value, sizeof value));
}
template <class Value>
void set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, Value value) {
  check("cublasLtMatmulDescSetAttribute",
        cublaslt().MatmulDescSetAttribute(desc, attribute, &value, sizeof value));
}
template <class Value>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         Value value) {
  check("cublasLtMatmulPreferenceSetAttribute",
        cublaslt().MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
}

void describe(cublasLtMatrixLayoutOpaque_t* layout, qkv_type type, int64_t rows, int64_t columns,
              int64_t ld, int64_t count, int64_t step) {
  check("cublasLtMatrixLayoutInit",
        cublaslt().MatrixLayoutInit_internal(layout, sizeof *layout, cuda_type(type),
                                             static_cast<uint64_t>(rows),
                                             static_cast<uint64_t>(columns), ld));
  if (count == 1) return;
  set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(count));
  set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, step);
}

// The product itself; `bias` is null where there is none. Heuristics ask for its alignment.
void describe(cublasLtMatmulDescOpaque_t* desc, const Batches& b, const void* bias) {
  // Sums in fp32, of fp32 numbers without tf32.
  check("cublasLtMatmulDescInit",
        cublaslt().MatmulDescInit_internal(desc, sizeof *desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  set(desc, CUBLASLT_MATMUL_DESC_TRANSA,
      static_cast<int32_t>(b.transpose_weight ? CUBLAS_OP_T : CUBLAS_OP_N));
  if (bias == nullptr) return;
  set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(CUBLASLT_EPILOGUE_BIAS));
  set(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  if (b.count > 1) set(desc, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, b.within.bias);
}

// Bytes that every address of a tensor is aligned to, in steps of so many elements: a power of two,
// at most 16.
uint32_t alignment(const View& view, int64_t step) {
  const uint64_t bits = reinterpret_cast<uintptr_t>(view.data) | 16 |
                        static_cast<uint64_t>(step * type_size(view.type));
  return uint32_t{1} << std::countr_zero(bits);
}

// Choices that keep the contract: sums that are split are added up in fp32, in a fixed order.
void choose(const Problem& p, LtPlan* plan) {
  const Batches& b = plan->batches;
  const CublasLt& lt = cublaslt();
  Prepared& made = plan->prepared;
  const int64_t in = b.in, out = b.out;
  describe(&made.weight, p.type, b.transpose_weight ? in : out, b.transpose_weight ? out : in,
           b.ld_weight, b.count, b.within.weight);
  describe(&made.x, p.type, in, b.rows, b.ld_x, b.count, b.within.x);
  describe(&made.y, p.type, out, b.rows, b.ld_y, b.count, b.within.y);

  // Of the products of one call cuBLASLt knows the steps itself, but for the bias's.
  const auto align = [&](const View& view, int64_t between) {
    return alignment(view, b.calls > 1 ? between : 0);
  };
  cublasLtMatmulDescOpaque_t desc{};
  // An address that is aligned as the bias's are, and no better: none is read.
  alignas(32) static constexpr std::array<std::byte, 32> kSomewhere{};
  const int64_t bias_step = b.count > 1 ? b.within.bias : 0;
  const uint32_t bias = std::min(align(p.bias, b.between.bias), alignment(p.bias, bias_step));
  describe(&desc, b, p.bias.present() ? kSomewhere.data() + bias : nullptr);

  cublasLtMatmulPreferenceOpaque_t preference{};
  check("cublasLtMatmulPreferenceInit",
        lt.MatmulPreferenceInit_internal(&preference, sizeof preference));
  const uint32_t y = align(p.y, b.between.y);
  set(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{plan->workspace_bytes});
  set(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align(p.weight, b.between.weight));
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align(p.x, b.between.x));
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, y);
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, y);

  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  check("cublasLtMatmulAlgoGetHeuristic",
        lt.MatmulAlgoGetHeuristic(made.handle, &desc, &made.weight, &made.x, &made.y, &made.y,
                                  &preference, 1, &best, &found));
  if (found < 1) throw Refusal{"cublasLtMatmulAlgoGetHeuristic", CUBLAS_STATUS_NOT_SUPPORTED};
  check("cublasLtMatmulAlgoGetHeuristic", best.state);
  made.algorithm = best.algo;
}

// What CUDA would have said: CudaRuntime knows its words.
int cuda_code(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return cudaSuccess;
    case CUBLAS_STATUS_ALLOC_FAILED:
      return cudaErrorMemoryAllocation;
    case CUBLAS_STATUS_NOT_SUPPORTED:
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return cudaErrorNotSupported;
    case CUBLAS_STATUS_INVALID_VALUE:
      return cudaErrorInvalidValue;
    default: {
      // Behind it stands a call of CUDA's as a rule, and what that said.
      const cudaError_t last = cudaPeekAtLastError();
      return last == cudaSuccess ? cudaErrorUnknown : last;
    }
  }
}

Status lt_prepare(const Problem& p, const CudaRuntime& cuda, LtPlan* plan) {
  std::string refused;  // cuBLASLt's words, where CUDA has none
  bool absent = false;
  Status status = cuda.load("cuBLASLt", [&]() -> int {
    const CublasLt& lt = cublaslt();
    if (!lt.missing.empty()) {
      refused = lt.missing;
      absent = true;
      return cudaSuccess;
    }
    Refusal refusal{"cublasLtCreate", CUBLAS_STATUS_SUCCESS};
    plan->prepared.handle = cublaslt_handle(p.device_index, &refusal.status);
    if (plan->prepared.handle != nullptr) {
      try {
        choose(p, plan);
      } catch (const Refusal& thrown) {
        refusal = thrown;
      }
    }
    if (refusal.status != CUBLAS_STATUS_SUCCESS)
      refused = host::text(refusal.call, " refuses: ", lt.GetStatusString(refusal.status));
    return cuda_code(refusal.status);
  });
  if (absent) return Status(QKV_UNSUPPORTED, std::move(refused));
  if (status.ok() || refused.empty()) return status;
  const bool unsupported = status.code() == QKV_UNSUPPORTED_KERNEL;
  return Status(unsupported ? QKV_UNSUPPORTED : status.code(), status.reason() + "; " + refused);
}

// Everything that a run adds to the plan is on the stack: other threads may run it too.
cublasStatus_t multiply(const Problem& p, const LtPlan& plan, const Run& run) {
  const Batches& b = plan.batches;
  Prepared made = plan.prepared;  // the layouts' addresses are not const for cuBLASLt
  const float one = 1, zero = 0;
  const auto at = [&](const View& view, int64_t call, int64_t between) {
    return static_cast<std::byte*>(view.data) + call * between * type_size(p.type);
  };
  for (int64_t call = 0; call < b.calls; ++call) {
    cublasLtMatmulDescOpaque_t desc{};
    describe(&desc, b, p.bias.present() ? at(p.bias, call, b.between.bias) : nullptr);
    std::byte* const y = at(p.y, call, b.between.y);
    const cublasStatus_t status = cublaslt().Matmul(
        made.handle, &desc, &one, at(p.weight, call, b.between.weight), &made.weight,
        at(p.x, call, b.between.x), &made.x, &zero, y, &made.y, y, &made.y, &made.algorithm,
        run.workspace, plan.workspace_bytes, static_cast<cudaStream_t>(run.stream));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
  }
  return CUBLAS_STATUS_SUCCESS;
}

Status lt_launch(const Problem& p, const LtPlan& plan, const CudaRuntime& cuda, const Run& run) {
  cublasStatus_t code = CUBLAS_STATUS_SUCCESS;
  Status status = cuda.queue(run, [&]() -> int {
    try {
      code = multiply(p, plan, run);
    } catch (const Refusal& refusal) {
      code = refusal.status;
    }
    return cuda_code(code);
  });
  if (status.ok() || code == CUBLAS_STATUS_SUCCESS) return status;
  return Status(status.code(),
                status.reason() + "; cublasLtMatmul refuses: " + cublaslt().GetStatusString(code));
}

constexpr Kernel kKernel = kernel_of<Problem, LtPlan, lt_decline, lt_plan, lt_prepare, lt_launch>(
    "cublaslt", QKV_DEVICE_CUDA);
#else
// A build with CUDA but without cuBLASLt's header has nobody to say no for it.
[[maybe_unused]] Status lt_prepare(const Problem&, const CudaRuntime&, LtPlan*) {
  return Status(QKV_UNSUPPORTED, "this build of qkv was made without cuBLASLt's header");
}

constexpr Kernel kKernel = kernel_of < Problem, LtPlan, lt_decline, lt_plan,
                 QKV_HAS_CUDA ? lt_prepare : prepare_absent<Problem, LtPlan>,
                 launch_absent < Problem, LtPlan >> ("cublaslt", QKV_DEVICE_CUDA);
#endif

}  // namespace

constexpr Kernel kCublasLt = kKernel;

}  // namespace qkv::host::project
