// What the host needs to know of devices. A table of functions, so that plans, refusals and host
// costs are tested on machines without a card. It knows no kernel: what a kernel asks of CUDA
// passes through as a callable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "host/core/status.h"

namespace qkv::host {

struct DeviceInfo {
  qkv_device kind = QKV_DEVICE_CPU;
  int32_t threads = 1;         // CPU: as many may compute
  int32_t compute = 0;         // CUDA: 90 for sm_90
  int32_t sm_count = 0;        // CUDA
  int32_t smem_per_block = 0;  // CUDA: bytes that a block can opt in to
  // CUDA: bytes of a multiprocessor; each block takes 1 KiB beside its own
  int32_t smem_per_sm = 0;
  int64_t l2_bytes = 0;      // CUDA
  int64_t memory_bytes = 0;  // CUDA
  // CUDA, as the driver says; 0 where it does not.
  int32_t clock_mhz = 0;   // of the multiprocessors, the highest
  int32_t memory_gbs = 0;  // of device memory, 10^9 bytes a second: its clock times its width
  std::string name;
};

enum class Memory { kHost, kPinned, kManaged, kDevice };

struct PointerInfo {
  Memory memory = Memory::kHost;
  int32_t device = 0;  // of kDevice and kManaged memory
};

// A call into the CUDA runtime that returns its cudaError_t: a reference to the caller's lambda,
// valid while the call that it is handed to lasts.
class CudaCall {
 public:
  template <class Body>
  requires std::is_invocable_r_v<int, const Body&> CudaCall(
      const Body& body)  // implicit: lambdas are handed over as they are
      : body_(std::addressof(body)),
        invoke_([](const void* at) -> int { return (*static_cast<const Body*>(at))(); }) {}
  int operator()() const { return invoke_(body_); }

 private:
  const void* body_;
  int (*invoke_)(const void*);
};

// A run on its way to a device.
struct Run {
  const char* name = "";      // of the kernel
  void* workspace = nullptr;  // as many bytes as the plan says
  void* stream = nullptr;     // a cudaStream_t; null on the CPU
};

// Every function is thread-safe and leaves CUDA's own last error as it found it.
struct CudaRuntime {
  Status (*device_count)(int32_t* count);  // 0 without card or driver; an error if CUDA won't say
  // Why there are 0 although there may be cards, and the way out: an old driver, mostly. Empty
  // where there is no card or no driver, so that nothing is to be mended.
  std::string (*no_device)();
  const DeviceInfo* (*device_info)(int32_t index);  // cached; null if there is none, or no answer
  Status (*pointer_info)(const void* pointer, PointerInfo* info);
  Status (*pending_error)();  // an error left by an earlier call, without clearing it
  Status (*set_device)(int32_t index, int32_t* previous);
  Status (*allocate)(size_t bytes, void* stream, void** pointer);  // stream-ordered pool
  Status (*release)(void* pointer, void* stream);
  // Makes `call`, which loads a kernel onto the current device; `what` begins the words of a
  // failure. QKV_UNSUPPORTED_KERNEL: CUDA says that this kernel does not run on this device with
  // this driver. Any other failure says nothing of the kernel.
  Status (*load)(const char* what, CudaCall call);
  // Makes `call`, which queues work on run.stream of the current device. A test's table may do
  // without the GPU instead.
  Status (*queue)(const Run& run, CudaCall call);
};

// The table in force: the CUDA runtime, or one without devices where qkv is built without CUDA.
const CudaRuntime& cuda_runtime();

// For tests: puts another table in force (null: the real one).
void set_cuda_runtime_for_test(const CudaRuntime* runtime);

// The threads of a call to the CPU: what OpenMP would use for the calling thread now, but at most
// `most` of them (0: all). One in a process that was forked since libqkv was loaded: OpenMP's
// threads do not come along.
int32_t cpu_threads(int32_t most);

// The CPU as a device of so many threads.
DeviceInfo cpu_device_info(int32_t most_threads = 0);

}  // namespace qkv::host
