#include "host/core/cuda_runtime.h"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <array>
#include <atomic>
#include <mutex>

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

Status earlier(cudaError_t error) {
  return Status(QKV_DEVICE_ERROR_PRIOR, text("an earlier CUDA call left ", cudaGetErrorName(error),
                                             " (", cudaGetErrorString(error), ")"));
}

// What a failed call of ours means. None of them waits for work on the device: a fault that one of
// them reports is an earlier launch's, and CUDA answers with it from then on. cudaPeekAtLastError
// shows it only until somebody takes it with cudaGetLastError (seen on an H100, driver 580).
Status check(int code, const char* what) {
  const auto error = static_cast<cudaError_t>(code);
  switch (error) {
    case cudaSuccess:
      return {};
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
      return earlier(error);
    default:
      return Status(
          error == cudaErrorMemoryAllocation ? QKV_RESOURCE_OUT_OF_MEMORY : QKV_DEVICE_ERROR_CALL,
          text(what, ": ", cudaGetErrorName(error), " (", cudaGetErrorString(error), ")"));
  }
}

Status pending_error() {
  const cudaError_t error = cudaPeekAtLastError();
  return error == cudaSuccess ? Status() : earlier(error);
}

// What cudaGetDeviceCount answered when there were none, and the newest CUDA that the driver runs:
// 0 without a driver.
std::atomic<cudaError_t> count_error{cudaSuccess};
std::atomic<int> driver_version{0};

// Remembered once known. Without card or driver there are 0; any other failure says nothing about
// the devices, let alone that tensors are in host memory.
Status device_count(int32_t* count) {
  static std::atomic<int32_t> known{-1};
  *count = known.load(std::memory_order_relaxed);
  if (*count >= 0) return {};
  *count = 0;
  int found = 0;
  const cudaError_t error = quietly([&] { return cudaGetDeviceCount(&found); });
  switch (error) {
    case cudaSuccess:
      *count = std::min(found, kMaxDevices);
      break;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorInitializationError: {
      int version = 0;
      (void)quietly([&] { return cudaDriverGetVersion(&version); });
      driver_version.store(version, std::memory_order_relaxed);
      count_error.store(error, std::memory_order_relaxed);
      break;
    }
    default:
      return check(error, "cudaGetDeviceCount");
  }
  known.store(*count, std::memory_order_relaxed);
  return {};
}

std::string version_text(int version) { return text(version / 1000, ".", version % 1000 / 10); }

// A driver runs what was built with its own major release of CUDA or an older one.
std::string old_driver(int driver) {
  return text("the NVIDIA driver here is for CUDA ", version_text(driver),
              " and older, this build of qkv is of CUDA ", cuda_release(),
              CUDART_VERSION >= 13000 ? "; update the driver to 580 or newer, or build qkv with "
                                        "QKV_CUDA_FLAVOUR=12, which runs on drivers from 525 on"
                                      : "; update the driver to 525 or newer");
}

std::string no_device() {
  int32_t count = 0;
  (void)device_count(&count);
  const cudaError_t error = count_error.load(std::memory_order_relaxed);
  const int driver = driver_version.load(std::memory_order_relaxed);
  switch (error) {
    case cudaSuccess:
    case cudaErrorNoDevice:
      return {};
    case cudaErrorInsufficientDriver:  // CUDA says so too where there is no driver
      return driver == 0 ? std::string() : old_driver(driver);
    default:
      return text(cudaGetErrorName(error), " (", cudaGetErrorString(error), ")");
  }
}

// No device if CUDA fails to say all of it: a plan made without its clock would differ from the
// next process's.
DeviceInfo read_device(int32_t index) {
  cudaDeviceProp prop{};
  int clock_khz = 0, memory_khz = 0, memory_bits = 0;  // 0 where the device has no such number
  const auto ask = [&] {
    cudaError_t error = cudaGetDeviceProperties(&prop, index);
    const auto attribute = [&](cudaDeviceAttr which, int* value) {
      if (error != cudaSuccess) return;
      error = cudaDeviceGetAttribute(value, which, index);
      // What a driver no longer knows is no number of the device.
      if (error != cudaErrorInvalidValue) return;
      *value = 0;
      error = cudaSuccess;
    };
    attribute(cudaDevAttrClockRate, &clock_khz);
    attribute(cudaDevAttrMemoryClockRate, &memory_khz);
    attribute(cudaDevAttrGlobalMemoryBusWidth, &memory_bits);
    return error;
  };
  DeviceInfo info;
  if (quietly(ask) != cudaSuccess) return info;
  info.kind = QKV_DEVICE_CUDA;
  info.compute = prop.major * 10 + prop.minor;
  info.sm_count = prop.multiProcessorCount;
  info.smem_per_block = static_cast<int32_t>(prop.sharedMemPerBlockOptin);
  info.smem_per_sm = static_cast<int32_t>(prop.sharedMemPerMultiprocessor);
  info.l2_bytes = prop.l2CacheSize;
  info.memory_bytes = static_cast<int64_t>(prop.totalGlobalMem);
  info.clock_mhz = clock_khz / 1000;
  // Two transfers a clock. kHz times bits over 8 is bytes a millisecond.
  info.memory_gbs = static_cast<int32_t>(int64_t{2} * memory_khz * memory_bits / 8 / 1'000'000);
  info.name = prop.name;
  return info;
}

const DeviceInfo* device_info(int32_t index) {
  int32_t count = 0;
  if (!device_count(&count).ok() || index < 0 || index >= count) return nullptr;
  static std::array<std::atomic<const DeviceInfo*>, kMaxDevices> known;
  static std::array<DeviceInfo, kMaxDevices> infos;
  static std::mutex mutex;
  const auto at = static_cast<size_t>(index);
  if (const DeviceInfo* info = known[at].load(std::memory_order_acquire)) return info;
  const std::lock_guard lock(mutex);
  if (known[at].load(std::memory_order_relaxed) == nullptr) {
    infos[at] = read_device(index);
    if (infos[at].kind != QKV_DEVICE_CUDA) return nullptr;  // the next call asks again
    known[at].store(&infos[at], std::memory_order_release);
  }
  return &infos[at];
}

// The driver's own answer: with an old one the runtime gives none, but another runtime in the
// process may have put tensors on a device.
PointerInfo ask_driver(const void* pointer) {
  static const auto ask = [] {
    // A driver that nobody has loaded has no memory.
    void* const library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    void* const found = library == nullptr ? nullptr : dlsym(library, "cuPointerGetAttribute");
    return reinterpret_cast<PFN_cuPointerGetAttribute_v4000>(found);
  }();
  const auto at = static_cast<CUdeviceptr>(reinterpret_cast<uintptr_t>(pointer));
  unsigned type = 0, managed = 0;
  if (ask == nullptr || ask(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, at) != CUDA_SUCCESS) return {};
  (void)ask(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, at);
  if (managed != 0) return {Memory::kManaged, 0};
  return {type == CU_MEMORYTYPE_DEVICE ? Memory::kDevice : Memory::kPinned, 0};
}

Status pointer_info(const void* pointer, PointerInfo* info) {
  if (count_error.load(std::memory_order_relaxed) == cudaErrorInsufficientDriver) {
    *info = ask_driver(pointer);
    return {};
  }
  cudaPointerAttributes attributes{};
  const cudaError_t error = quietly([&] { return cudaPointerGetAttributes(&attributes, pointer); });
  if (error != cudaSuccess) return check(error, "cudaPointerGetAttributes");
  switch (attributes.type) {
    case cudaMemoryTypeDevice:
      *info = {Memory::kDevice, attributes.device};
      break;
    case cudaMemoryTypeManaged:
      *info = {Memory::kManaged, attributes.device};
      break;
    case cudaMemoryTypeHost:
      *info = {Memory::kPinned, 0};
      break;
    default:
      *info = {Memory::kHost, 0};
      break;
  }
  return {};
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

// What CUDA says of a kernel that this device or driver does not run: its machine code is for
// others, its PTX too new, an attribute out of range, its tensors nothing that the driver's tensor
// maps describe. All else says nothing of the kernel: memory that has run out, a graph capture, a
// device that is lost, errors without a cause (cudaErrorUnknown). Those fail the call, and the next
// one tries again.
bool not_for_here(cudaError_t error) {
  switch (error) {
    case cudaErrorInvalidValue:
    case cudaErrorCallRequiresNewerDriver:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorInvalidKernelImage:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidPtx:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled:
    case cudaErrorInvalidSource:
    case cudaErrorSymbolNotFound:
    case cudaErrorNotSupported:
      return true;
    default:
      return false;
  }
}

Status made(const char* what, CudaCall call, cudaError_t* error) {
  *error = quietly([&] { return static_cast<cudaError_t>(call()); });
  return check(*error, what);
}

Status load(const char* what, CudaCall call) {
  cudaError_t error{};
  Status status = made(what, call, &error);
  return not_for_here(error) ? Status(QKV_UNSUPPORTED_KERNEL, status.reason()) : status;
}

Status queue(const Run& run, CudaCall call) {
  cudaError_t error{};
  return made(run.name, call, &error);
}

}  // namespace

const CudaRuntime& real_cuda_runtime() {
  static constexpr CudaRuntime kTable{device_count,  no_device,  device_info, pointer_info,
                                      pending_error, set_device, allocate,    release,
                                      load,          queue};
  return kTable;
}

const char* cuda_release() {
  static const std::string release = version_text(CUDART_VERSION);
  return release.c_str();
}

}  // namespace qkv::host
