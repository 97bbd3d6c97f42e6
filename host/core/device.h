// What the host needs to know of devices. A table of functions, so that plans, refusals and host
// costs are tested on machines without a card.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "host/core/status.h"

namespace qkv::host {

struct Kernel;
struct Merge;
struct Plan;
struct Problem;

struct DeviceInfo {
  qkv_device kind = QKV_DEVICE_CPU;
  int32_t threads = 1;         // CPU: threads that OpenMP would use
  int32_t compute = 0;         // CUDA: 90 for sm_90
  int32_t sm_count = 0;        // CUDA
  int32_t smem_per_block = 0;  // CUDA: bytes that a block can opt in to
  int32_t smem_per_sm =
      0;                 // CUDA: bytes of a multiprocessor; each block takes 1 KiB beside its own
  int64_t l2_bytes = 0;  // CUDA
  int64_t memory_bytes = 0;  // CUDA
  std::string name;
};

enum class Memory { kHost, kPinned, kManaged, kDevice };

struct PointerInfo {
  Memory memory = Memory::kHost;
  int32_t device = 0;  // of kDevice and kManaged memory
};

// Every function is thread-safe and leaves CUDA's own last error as it found it.
struct CudaRuntime {
  Status (*device_count)(int32_t* count);  // 0 without card or driver; an error if CUDA won't say
  const DeviceInfo* (*device_info)(int32_t index);  // cached; null if there is none, or no answer
  Status (*pointer_info)(const void* pointer, PointerInfo* info);
  Status (*pending_error)();  // an error left by an earlier call, without clearing it
  Status (*set_device)(int32_t index, int32_t* previous);
  Status (*allocate)(size_t bytes, void* stream, void** pointer);  // stream-ordered pool
  Status (*release)(void* pointer, void* stream);
  Status (*check)(int code, const char* what);  // a cudaError_t as a status
  // Calls kernel.prepare.
  Status (*prepare)(const Kernel& kernel, const Problem& problem, Plan* plan);
  // Calls kernel.launch; a test's table may do without the GPU instead.
  int (*launch)(const Kernel& kernel, const Problem& problem, const Plan& plan, void* workspace,
                void* stream, Status* status);
  Status (*merge)(const Merge& merge, void* stream);  // queues it on the current device
};

// The table in force: the CUDA runtime, or one without devices where qkv is built without CUDA.
const CudaRuntime& cuda_runtime();

// For tests: puts another table in force (null: the real one).
void set_cuda_runtime_for_test(const CudaRuntime* runtime);

// The CPU as a device.
DeviceInfo cpu_device_info();

}  // namespace qkv::host
