#include "host/cuda_runtime.h"

#include <cuda_runtime_api.h>

#include <array>
#include <mutex>

#include "host/plan.h"

namespace qkv::host {
namespace {

constexpr int32_t kMaxDevices = 64;

// Undoes what a failed query of ours left in CUDA's per-thread last error. An error that was there
// before stays: the callers look with cudaPeekAtLastError first.
template <class Call>
cudaError_t quietly(Call&& call) {
  const cudaError_t before = cudaPeekAtLastError();
  const cudaError_t code = call();
  if (code != cudaSuccess && before == cudaSuccess) (void)cudaGetLastError();
  return code;
}

Status check(int code, const char* what) {
  const auto error = static_cast<cudaError_t>(code);
  if (error == cudaSuccess) return {};
  return Status(
      error == cudaErrorMemoryAllocation ? QKV_RESOURCE_OUT_OF_MEMORY : QKV_DEVICE_ERROR_CALL,
      text(what, ": ", cudaGetErrorName(error), " (", cudaGetErrorString(error), ")"));
}

int32_t device_count() {
  static const int32_t count = [] {
    int found = 0;
    return quietly([&] { return cudaGetDeviceCount(&found); }) == cudaSuccess
               ? std::min(found, kMaxDevices)
               : 0;
  }();
  return count;
}

DeviceInfo read_device(int32_t index) {
  cudaDeviceProp prop{};
  DeviceInfo info;
  if (quietly([&] { return cudaGetDeviceProperties(&prop, index); }) != cudaSuccess) return info;
  info.kind = QKV_DEVICE_CUDA;
  info.compute = prop.major * 10 + prop.minor;
  info.sm_count = prop.multiProcessorCount;
  info.smem_per_block = static_cast<int32_t>(prop.sharedMemPerBlockOptin);
  info.l2_bytes = prop.l2CacheSize;
  info.memory_bytes = static_cast<int64_t>(prop.totalGlobalMem);
  info.name = prop.name;
  return info;
}

const DeviceInfo* device_info(int32_t index) {
  if (index < 0 || index >= device_count()) return nullptr;
  static std::array<std::once_flag, kMaxDevices> once;
  static std::array<DeviceInfo, kMaxDevices> infos;
  const auto at = static_cast<size_t>(index);
  std::call_once(once[at], [&] { infos[at] = read_device(index); });
  return infos[at].kind == QKV_DEVICE_CUDA ? &infos[at] : nullptr;
}

PointerInfo pointer_info(const void* pointer) {
  cudaPointerAttributes attributes{};
  const auto query = [&] { return cudaPointerGetAttributes(&attributes, pointer); };
  if (quietly(query) != cudaSuccess) return {};
  switch (attributes.type) {
    case cudaMemoryTypeDevice:
      return {Memory::kDevice, attributes.device};
    case cudaMemoryTypeManaged:
      return {Memory::kManaged, attributes.device};
    case cudaMemoryTypeHost:
      return {Memory::kPinned, 0};
    default:
      return {Memory::kHost, 0};
  }
}

Status pending_error() {
  const cudaError_t error = cudaPeekAtLastError();
  if (error == cudaSuccess) return {};
  return Status(QKV_DEVICE_ERROR_PRIOR, text("an earlier CUDA call left ", cudaGetErrorName(error),
                                             " (", cudaGetErrorString(error), ")"));
}

Status set_device(int32_t index, int32_t* previous) {
  int current = 0;
  QKV_RETURN_IF_ERROR(check(quietly([&] { return cudaGetDevice(&current); }), "cudaGetDevice"));
  if (current == index) {
    *previous = -1;
    return {};
  }
  QKV_RETURN_IF_ERROR(check(quietly([&] { return cudaSetDevice(index); }), "cudaSetDevice"));
  *previous = current;
  return {};
}

Status allocate(size_t bytes, void* stream, void** pointer) {
  const auto call = [&] {
    return cudaMallocAsync(pointer, bytes, static_cast<cudaStream_t>(stream));
  };
  return check(quietly(call), "cudaMallocAsync");
}

Status release(void* pointer, void* stream) {
  const auto call = [&] { return cudaFreeAsync(pointer, static_cast<cudaStream_t>(stream)); };
  return check(quietly(call), "cudaFreeAsync");
}

int launch(const Kernel& kernel, const Problem& problem, const Plan& plan, void* workspace,
           void* stream, Status* status) {
  return quietly([&] {
    return static_cast<cudaError_t>(kernel.launch(problem, plan, workspace, stream, status));
  });
}

}  // namespace

const CudaRuntime& real_cuda_runtime() {
  static constexpr CudaRuntime kTable{device_count,  device_info, pointer_info,
                                      pending_error, set_device,  allocate,
                                      release,       check,       launch};
  return kTable;
}

}  // namespace qkv::host
