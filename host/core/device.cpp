#include "host/core/device.h"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>

#include "host/core/cuda_runtime.h"

namespace qkv::host {
namespace {

std::atomic<const CudaRuntime*> override_for_test{nullptr};

// OpenMP's threads stay behind in the parent when a process forks, and libgomp waits for them
// forever: whoever used it before, nothing says so.
std::atomic<bool> in_forked_child{false};
const int forks_are_seen = pthread_atfork(nullptr, nullptr, [] { in_forked_child = true; });

}  // namespace

const CudaRuntime& cuda_runtime() {
  const CudaRuntime* replaced = override_for_test.load(std::memory_order_acquire);
  return replaced != nullptr ? *replaced : real_cuda_runtime();
}

void set_cuda_runtime_for_test(const CudaRuntime* runtime) {
  override_for_test.store(runtime, std::memory_order_release);
}

int32_t cpu_threads(int32_t most) {
  if (in_forked_child) return 1;
  const int32_t all = omp_get_max_threads();
  return most > 0 ? std::min(most, all) : all;
}

DeviceInfo cpu_device_info(int32_t most_threads) {
  DeviceInfo info;
  info.threads = cpu_threads(most_threads);
  info.name = "cpu";
  return info;
}

}  // namespace qkv::host
