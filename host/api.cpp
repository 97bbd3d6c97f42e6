// The C ABI: copies nothing, throws nothing, keeps the reason of the last failure per thread.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <new>

#include "host/core/plan_cache.h"
#include "host/core/run.h"
#include "host/core/verbose.h"
#include "host/ops/merge/op.h"

namespace {

using namespace qkv::host;

// The architectures that this build has kernels for, as a JSON value.
#if QKV_HAS_CUDA
constexpr const char* kCudaTargets = "\"" QKV_CUDA_TARGETS "\"";
#else
constexpr const char* kCudaTargets = "null";
#endif

std::string& last_error() {
  thread_local std::string message;
  return message;
}

// Every entry point runs inside of this: a Status becomes a code, an exception becomes a Status.
template <class Body>
qkv_status guarded(Body&& body) noexcept {
  try {
    const Status status = body();
    if (!status.ok()) {
      last_error() = status.reason();
      if (verbose(kVerboseError | kVerboseCheck)) log_failure(status);
    }
    return status.code();
  } catch (const std::bad_alloc&) {
    try {
      last_error() = "out of host memory";
      if (verbose(kVerboseError)) log_failure(Status(QKV_RESOURCE_OUT_OF_MEMORY, last_error()));
    } catch (...) {  // the old message stays
    }
    return QKV_RESOURCE_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    try {
      last_error() = text("internal error: ", error.what());
      if (verbose(kVerboseError)) log_failure(Status(QKV_INTERNAL, last_error()));
    } catch (...) {  // the old message stays
    }
    return QKV_INTERNAL;
  }
}

void copy_text(const std::string& from, char* to, size_t capacity) {
  if (capacity == 0) return;
  const size_t length = std::min(from.size(), capacity - 1);
  std::memcpy(to, from.data(), length);
  to[length] = '\0';
}

Status check_init(const void* desc, size_t struct_size, size_t known) {
  QKV_REQUIRE(desc != nullptr, QKV_INVALID_NULL, "the descriptor is null");
  QKV_REQUIRE(struct_size >= known, QKV_INVALID_STRUCT_SIZE, "struct_size is ", struct_size,
              "; this library knows ", known);
  return {};
}

Status query(const qkv_attention_desc* desc, qkv_query_result* result) {
  QKV_REQUIRE(result != nullptr, QKV_INVALID_NULL, "the result is null");
  QKV_REQUIRE(result->struct_size >= sizeof(qkv_query_result), QKV_INVALID_STRUCT_SIZE,
              "result.struct_size is ", result->struct_size, "; this library writes ",
              sizeof(qkv_query_result));
  const CudaRuntime& cuda = cuda_runtime();
  Problem problem;
  Status status = validate(desc, Need::kShapes, cuda, &problem);
  if (!status.ok() && qkv_status_class(status.code()) == QKV_INVALID_ARGUMENT) return status;

  const size_t struct_size = result->struct_size;
  *result = qkv_query_result{};
  result->struct_size = struct_size;
  Plan plan;
  const DeviceInfo* device = nullptr;
  if (status.ok()) status = find_device(problem, cuda, &device);
  if (status.ok()) status = make_plan(problem, *device, &plan);
  if (!status.ok()) {
    copy_text(status.reason(), result->reasons, sizeof result->reasons);
    return {};
  }
  result->supported = 1;
  result->workspace_size = plan.workspace_bytes;
  copy_text(plan.kernel->name, result->kernel, sizeof result->kernel);
  copy_text(plan.declined, result->reasons, sizeof result->reasons);
  return {};
}

Status create_plan(const qkv_attention_desc* desc, qkv_plan** plan) {
  QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the place for the plan is null");
  *plan = nullptr;
  const CudaRuntime& cuda = cuda_runtime();
  Problem problem;
  QKV_RETURN_IF_ERROR(validate(desc, Need::kShapes, cuda, &problem));
  const DeviceInfo* device = nullptr;
  QKV_RETURN_IF_ERROR(find_device(problem, cuda, &device));
  std::unique_ptr<qkv_plan> made;
  QKV_RETURN_IF_ERROR(new_plan(problem, plan_key(problem, *device), *device, cuda, &made));
  *plan = made.release();
  return {};
}

Status run_made_plan(const qkv_plan* plan, const qkv_attention_desc* desc, void* stream) {
  QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the plan is null");
  const CudaRuntime& cuda = cuda_runtime();
  Problem problem;
  QKV_RETURN_IF_ERROR(validate(desc, Need::kAddresses, cuda, &problem));
  const PlanKey call = plan_key(problem, plan->device);
  QKV_REQUIRE(plan->key.serves(call), QKV_INVALID_PLAN,
              plan->key.shape == call.shape
                  ? "a tensor's address is less aligned than the plan was made for"
                  : "the descriptor's shapes, strides, types, options or device differ from the "
                    "plan's; make a plan for it");
  return run_plan(plan->plan, problem, cuda, stream);
}

Status attention(const qkv_attention_desc* desc, void* stream) {
  const CudaRuntime& cuda = cuda_runtime();
  Problem problem;
  QKV_RETURN_IF_ERROR(validate(desc, Need::kAddresses, cuda, &problem));
  if (problem.empty()) return {};
  SharedPlan plan;
  QKV_RETURN_IF_ERROR(cached_plan(problem, cuda, &plan));
  return run_plan(plan->plan, problem, cuda, stream);
}

}  // namespace

extern "C" {

int32_t qkv_version(void) {
  return QKV_VERSION_MAJOR * 10000 + QKV_VERSION_MINOR * 100 + QKV_VERSION_PATCH;
}

const char* qkv_build_info(void) {
  static const std::string info = [] {
    std::string names;
    for (const Kernel* kernel : kernels()) {
      names += text(names.empty() ? "" : ", ", '"', kernel->name, '"');
    }
    return text("{\"version\": \"", QKV_VERSION_MAJOR, ".", QKV_VERSION_MINOR, ".",
                QKV_VERSION_PATCH, "\", \"compiler\": \"", __VERSION__,
                "\", \"cuda\": ", kCudaTargets, ", \"kernels\": [", names, "]}");
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
    QKV_REQUIRE(facts->struct_size >= sizeof(qkv_device_facts), QKV_INVALID_STRUCT_SIZE,
                "facts.struct_size is ", facts->struct_size, "; this library writes ",
                sizeof(qkv_device_facts));
    const CudaRuntime& cuda = cuda_runtime();
    int32_t count = 0;
    QKV_RETURN_IF_ERROR(cuda.device_count(&count));
    QKV_REQUIRE(index >= 0 && index < count, QKV_DEVICE_ERROR_NONE, "index is ", index,
                "; this process has ", count, " CUDA devices");
    const DeviceInfo* info = cuda.device_info(index);
    if (info == nullptr) QKV_RETURN_IF_ERROR(cuda.pending_error());
    QKV_REQUIRE(info != nullptr, QKV_DEVICE_ERROR_NONE, "cuda:", index, " does not answer");
    facts->compute_major = info->compute / 10;
    facts->compute_minor = info->compute % 10;
    facts->sm_count = info->sm_count;
    facts->smem_per_block = info->smem_per_block;
    facts->memory_bytes = info->memory_bytes;
    facts->l2_bytes = info->l2_bytes;
    copy_text(info->name, facts->name, sizeof facts->name);
    return {};
  });
}

qkv_status qkv_attention_desc_init(qkv_attention_desc* desc, size_t struct_size) {
  return guarded([&]() -> Status {
    QKV_RETURN_IF_ERROR(check_init(desc, struct_size, sizeof(qkv_attention_desc)));
    std::memset(desc, 0, struct_size);
    desc->struct_size = struct_size;
    desc->weights_mode = QKV_WEIGHTS_PROBABILITIES;
    desc->window_left = -1;
    desc->window_right = -1;
    return {};
  });
}

qkv_status qkv_query(const qkv_attention_desc* desc, qkv_query_result* result) {
  return guarded([&] { return query(desc, result); });
}

qkv_status qkv_plan_create(const qkv_attention_desc* desc, qkv_plan** plan) {
  return guarded([&] { return create_plan(desc, plan); });
}

qkv_status qkv_plan_workspace_size(const qkv_plan* plan, size_t* bytes) {
  return guarded([&]() -> Status {
    QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the plan is null");
    QKV_REQUIRE(bytes != nullptr, QKV_INVALID_NULL, "the place for the size is null");
    *bytes = plan->plan.workspace_bytes;
    return {};
  });
}

qkv_status qkv_plan_print(const qkv_plan* plan, char* buffer, size_t capacity, size_t* length) {
  return guarded([&]() -> Status {
    QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the plan is null");
    QKV_REQUIRE(buffer != nullptr || capacity == 0, QKV_INVALID_NULL,
                "the text buffer is null, its capacity is ", capacity);
    const std::string printed = plan_text(plan->plan, plan->problem, plan->device);
    copy_text(printed, buffer, capacity);
    if (length != nullptr) *length = printed.size();
    return {};
  });
}

qkv_status qkv_plan_run(const qkv_plan* plan, const qkv_attention_desc* desc, void* stream) {
  return guarded([&] { return run_made_plan(plan, desc, stream); });
}

void qkv_plan_destroy(qkv_plan* plan) { delete plan; }

qkv_status qkv_attention(const qkv_attention_desc* desc, void* stream) {
  return guarded([&] { return attention(desc, stream); });
}

qkv_status qkv_merge_desc_init(qkv_merge_desc* desc, size_t struct_size) {
  return guarded([&]() -> Status {
    QKV_RETURN_IF_ERROR(check_init(desc, struct_size, sizeof(qkv_merge_desc)));
    std::memset(desc, 0, struct_size);
    desc->struct_size = struct_size;
    return {};
  });
}

qkv_status qkv_merge(const qkv_merge_desc* desc, void* stream) {
  return guarded([&] { return run_merge(desc, cuda_runtime(), stream); });
}

}  // extern "C"
