#include "host/core/device.h"

#include <omp.h>

#include <atomic>

#include "host/core/cuda_runtime.h"

namespace qkv::host {
namespace {

std::atomic<const CudaRuntime*> override_for_test{nullptr};

}  // namespace

const CudaRuntime& cuda_runtime() {
  const CudaRuntime* replaced = override_for_test.load(std::memory_order_acquire);
  return replaced != nullptr ? *replaced : real_cuda_runtime();
}

void set_cuda_runtime_for_test(const CudaRuntime* runtime) {
  override_for_test.store(runtime, std::memory_order_release);
}

DeviceInfo cpu_device_info() {
  DeviceInfo info;
  info.threads = omp_get_max_threads();
  info.name = "cpu";
  return info;
}

}  // namespace qkv::host
