// The entry points that belong to no operation: version, status, devices, and what all plans share.
#include <oneapi/dnnl/dnnl_version.h>

#include <span>
#include <string>

#include "host/core/cuda_runtime.h"
#include "host/core/descriptor.h"
#include "host/core/entry.h"
#include "host/core/op.h"
#include "host/core/plan.h"
#include "host/core/tensor_check.h"

#define QKV_OP(name)          \
  namespace qkv::host::name { \
  extern const Op kOp;        \
  }
#include "host/ops.inc"
#undef QKV_OP

namespace {

using namespace qkv::host;

// The architectures that this build has kernels for, as a JSON value.
#if QKV_HAS_CUDA
constexpr const char* kCudaTargets = "\"" QKV_CUDA_TARGETS "\"";
#else
constexpr const char* kCudaTargets = "null";
#endif

// Of each release that changed the struct.
constexpr size_t kDeviceFactsSizes[] = {sizeof(qkv_device_facts)};

// All operations: a row for each folder of ops/, which CMake writes.
constexpr const Op* kOps[] = {
#define QKV_OP(name) &name::kOp,
#include "host/ops.inc"
#undef QKV_OP
};

}  // namespace

std::span<const qkv::host::Op* const> qkv::host::all_ops() { return kOps; }

extern "C" {

int32_t qkv_version(void) {
  return QKV_VERSION_MAJOR * 10000 + QKV_VERSION_MINOR * 100 + QKV_VERSION_PATCH;
}

const char* qkv_build_info(void) {
  static const std::string info = [] {
    std::string names;
    for (const Op* op : all_ops())
      for (const Kernel* kernel : op->kernels)
        if (kernel->built) names += text(names.empty() ? "" : ", ", '"', kernel->name, '"');
    const char* const release = cuda_release();
    const std::string runtime = release == nullptr ? "null" : text('"', release, '"');
    return text("{\"version\": \"", QKV_VERSION_MAJOR, ".", QKV_VERSION_MINOR, ".",
                QKV_VERSION_PATCH, "\", \"compiler\": \"", __VERSION__,
                "\", \"cpu_engine\": \"oneDNN ", DNNL_VERSION_MAJOR, ".", DNNL_VERSION_MINOR,
                "\", \"cuda\": ", kCudaTargets, ", \"cuda_runtime\": ", runtime, ", \"kernels\": [",
                names, "]}");
  }();
  return info.c_str();
}

qkv_status qkv_status_class(qkv_status status) { return status - status % 1000; }

const char* qkv_status_name(qkv_status status) {
  switch (status) {
#define QKV_NAME(name) \
  case name:           \
    return #name;
    QKV_NAME(QKV_SUCCESS)
    QKV_NAME(QKV_INVALID_ARGUMENT)
    QKV_NAME(QKV_INVALID_NULL)
    QKV_NAME(QKV_INVALID_STRUCT_SIZE)
    QKV_NAME(QKV_INVALID_ENUM)
    QKV_NAME(QKV_INVALID_TYPE)
    QKV_NAME(QKV_INVALID_SHAPE)
    QKV_NAME(QKV_INVALID_STRIDE)
    QKV_NAME(QKV_INVALID_SIZE)
    QKV_NAME(QKV_INVALID_VALUE)
    QKV_NAME(QKV_INVALID_DEVICE)
    QKV_NAME(QKV_INVALID_ALIGNMENT)
    QKV_NAME(QKV_INVALID_COMBINATION)
    QKV_NAME(QKV_INVALID_PLAN)
    QKV_NAME(QKV_INVALID_OVERLAP)
    QKV_NAME(QKV_UNSUPPORTED)
    QKV_NAME(QKV_UNSUPPORTED_RESERVED)
    QKV_NAME(QKV_UNSUPPORTED_KERNEL)
    QKV_NAME(QKV_UNSUPPORTED_BUILD)
    QKV_NAME(QKV_RESOURCE)
    QKV_NAME(QKV_RESOURCE_WORKSPACE)
    QKV_NAME(QKV_RESOURCE_OUT_OF_MEMORY)
    QKV_NAME(QKV_DEVICE_ERROR)
    QKV_NAME(QKV_DEVICE_ERROR_NONE)
    QKV_NAME(QKV_DEVICE_ERROR_CALL)
    QKV_NAME(QKV_DEVICE_ERROR_PRIOR)
    QKV_NAME(QKV_INTERNAL)
#undef QKV_NAME
    default:
      return "unknown status";
  }
}

const char* qkv_last_error(void) { return last_error().c_str(); }

int32_t qkv_device_count(void) {
  int32_t count = 0;
  (void)guarded([&] { return cuda_runtime().device_count(&count); });
  return count;
}

qkv_status qkv_device_query(int32_t index, qkv_device_facts* facts) {
  return guarded([&]() -> Status {
    QKV_REQUIRE(facts != nullptr, QKV_INVALID_NULL, "facts is null");
    QKV_RETURN_IF_ERROR(check_result_size("facts", kDeviceFactsSizes, facts->struct_size));
    const CudaRuntime& cuda = cuda_runtime();
    int32_t count = 0;
    QKV_RETURN_IF_ERROR(cuda.device_count(&count));
    QKV_REQUIRE(count > 0, QKV_DEVICE_ERROR_NONE, "index is ", index, ", but ",
                no_device_text(cuda));
    QKV_REQUIRE(index >= 0 && index < count, QKV_DEVICE_ERROR_NONE, "index is ", index,
                "; this process has ", count, " CUDA devices");
    const DeviceInfo* info = cuda.device_info(index);
    if (info == nullptr) QKV_RETURN_IF_ERROR(cuda.pending_error());
    QKV_REQUIRE(info != nullptr, QKV_DEVICE_ERROR_NONE, "cuda:", index, " does not answer");
    qkv_device_facts answer{};
    answer.compute_major = info->compute / 10;
    answer.compute_minor = info->compute % 10;
    answer.sm_count = info->sm_count;
    answer.smem_per_block = info->smem_per_block;
    answer.memory_bytes = info->memory_bytes;
    answer.l2_bytes = info->l2_bytes;
    copy_text(info->name, answer.name, sizeof answer.name);
    write_result(answer, facts);
    return {};
  });
}

qkv_status qkv_plan_workspace_size(const qkv_plan* plan, size_t* bytes) {
  return guarded([&]() -> Status {
    QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the plan is null");
    QKV_REQUIRE(bytes != nullptr, QKV_INVALID_NULL, "the place for the size is null");
    *bytes = plan->plan.workspace_bytes();
    return {};
  });
}

qkv_status qkv_plan_print(const qkv_plan* plan, char* buffer, size_t capacity, size_t* length) {
  return guarded([&]() -> Status {
    QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the plan is null");
    QKV_REQUIRE(buffer != nullptr || capacity == 0, QKV_INVALID_NULL,
                "the text buffer is null, its capacity is ", capacity);
    const std::string printed = plan_text(*plan->op, plan->plan, *plan->problem, plan->device);
    copy_text(printed, buffer, capacity);
    if (length != nullptr) *length = printed.size();
    return {};
  });
}

void qkv_plan_destroy(qkv_plan* plan) { delete plan; }

}  // extern "C"
