// Devices, versions, errors, limits, driver entry points.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "cudart/api.h"

using namespace vgpu;

namespace {

bool valid_device(int device) { return device >= 0 && device < rt().device_count; }

struct ErrorRow {
  cudaError_t code;
  const char *name, *text;
};
constexpr ErrorRow kErrors[] = {
#define VGPU_ERROR(code, text) \
  { code, #code, text }
    VGPU_ERROR(cudaSuccess, "no error"),
    VGPU_ERROR(cudaErrorInvalidValue, "invalid argument"),
    VGPU_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    VGPU_ERROR(cudaErrorInitializationError, "initialization error"),
    VGPU_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    VGPU_ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    VGPU_ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
    VGPU_ERROR(cudaErrorMissingConfiguration, "__global__ function call is not configured"),
    VGPU_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    VGPU_ERROR(cudaErrorInsufficientDriver,
               "CUDA driver version is insufficient for CUDA runtime version"),
    VGPU_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    VGPU_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    VGPU_ERROR(cudaErrorInvalidKernelImage, "device kernel image is invalid"),
    VGPU_ERROR(cudaErrorNoKernelImageForDevice,
               "no kernel image is available for execution on the device"),
    VGPU_ERROR(cudaErrorInvalidPtx, "a PTX JIT compilation failed"),
    VGPU_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    VGPU_ERROR(cudaErrorSymbolNotFound, "named symbol not found"),
    VGPU_ERROR(cudaErrorNotReady, "device not ready"),
    VGPU_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    VGPU_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    VGPU_ERROR(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    VGPU_ERROR(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    VGPU_ERROR(cudaErrorPeerAccessNotEnabled, "peer access has not been enabled"),
    VGPU_ERROR(cudaErrorAssert, "device-side assert triggered"),
    VGPU_ERROR(cudaErrorHostMemoryAlreadyRegistered,
               "part or all of the requested memory range is already mapped"),
    VGPU_ERROR(cudaErrorHostMemoryNotRegistered,
               "pointer does not correspond to a registered memory region"),
    VGPU_ERROR(cudaErrorHardwareStackError, "hardware stack error"),
    VGPU_ERROR(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    VGPU_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    VGPU_ERROR(cudaErrorInvalidAddressSpace,
               "operation not supported on global/shared address space"),
    VGPU_ERROR(cudaErrorInvalidPc, "invalid program counter"),
    VGPU_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    VGPU_ERROR(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    VGPU_ERROR(cudaErrorNotSupported, "operation not supported"),
    VGPU_ERROR(cudaErrorStreamCaptureUnsupported,
               "operation not permitted when stream is capturing"),
    VGPU_ERROR(cudaErrorStreamCaptureInvalidated,
               "operation failed due to a previous error during capture"),
    VGPU_ERROR(cudaErrorStreamCaptureUnmatched, "stream capture was not initiated in this stream"),
    VGPU_ERROR(cudaErrorStreamCaptureMerge,
               "operation would result in a merge of separate capture sequences"),
    VGPU_ERROR(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work"),
    VGPU_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    VGPU_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    VGPU_ERROR(cudaErrorStreamCaptureImplicit,
               "operation would make the legacy stream depend on a capturing blocking stream"),
    VGPU_ERROR(cudaErrorCapturedEvent,
               "operation not permitted on an event last recorded in a capturing stream"),
    VGPU_ERROR(cudaErrorStreamCaptureWrongThread,
               "attempt to terminate a thread-local capture sequence from another thread"),
    VGPU_ERROR(cudaErrorUnknown, "unknown error"),
#undef VGPU_ERROR
};

int attribute(cudaDeviceAttr attr, bool& known) {
  const DeviceModel& d = rt().machine.device;
  known = true;
  switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock:
      return static_cast<int>(kMaxThreadsPerBlock);
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      return 1024;
    case cudaDevAttrMaxBlockDimZ:
      return 64;
    case cudaDevAttrMaxGridDimX:
      return 0x7fffffff;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      return 65535;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return static_cast<int>(kStaticSharedLimit);
    case cudaDevAttrTotalConstantMemory:
      return 65536;
    case cudaDevAttrWarpSize:
      return kLanes;
    case cudaDevAttrMaxPitch:
      return 0x7fffffff;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      return static_cast<int>(kRegistersPerSm);
    case cudaDevAttrClockRate:
      return static_cast<int>(d.clock_khz);
    case cudaDevAttrMemoryClockRate:
      return static_cast<int>(d.memory_clock_khz);
    case cudaDevAttrGlobalMemoryBusWidth:
      return static_cast<int>(d.bus_width);
    case cudaDevAttrL2CacheSize:
      return static_cast<int>(d.l2_bytes);
    case cudaDevAttrTextureAlignment:
      return 512;
    case cudaDevAttrMultiProcessorCount:
      return d.sms;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return static_cast<int>(d.threads_per_sm);
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      return static_cast<int>(d.blocks_per_sm);
    case cudaDevAttrComputeCapabilityMajor:
      return d.major;
    case cudaDevAttrComputeCapabilityMinor:
      return d.minor;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return static_cast<int>(d.shared_per_sm);
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return static_cast<int>(d.shared_per_block_optin);
    case cudaDevAttrReservedSharedMemoryPerBlock:
      return static_cast<int>(d.reserved_shared_per_block);
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrGpuOverlap:
    case cudaDevAttrCanUseHostPointerForRegisteredMem:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrGlobalL1CacheSupported:
    case cudaDevAttrLocalL1CacheSupported:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrConcurrentManagedAccess:
    case cudaDevAttrComputePreemptionSupported:
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrHostRegisterSupported:
    case cudaDevAttrMemoryPoolsSupported:
      return 1;
    case cudaDevAttrClusterLaunch:
      return d.major >= 9 ? 1 : 0;
    case cudaDevAttrAsyncEngineCount:
      return 2;
    case cudaDevAttrPciBusId:
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrIntegrated:
    case cudaDevAttrKernelExecTimeout:
    case cudaDevAttrComputeMode:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrTccDriver:
    case cudaDevAttrIsMultiGpuBoard:
    case cudaDevAttrMultiGpuBoardGroupID:
    case cudaDevAttrHostNativeAtomicSupported:
    case cudaDevAttrPageableMemoryAccess:
    case cudaDevAttrPageableMemoryAccessUsesHostPageTables:
    case cudaDevAttrDirectManagedMemAccessFromHost:
    case cudaDevAttrGPUDirectRDMASupported:
      return 0;
    default:
      known = false;
      return 0;
  }
}

}  // namespace

VGPU_EXPORT cudaError_t cudaGetLastError() { return rt().last_error(true); }
VGPU_EXPORT cudaError_t cudaPeekAtLastError() { return rt().last_error(false); }
VGPU_EXPORT const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorRow& row : kErrors)
    if (row.code == error) return row.name;
  return "unrecognized error code";
}
VGPU_EXPORT const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorRow& row : kErrors)
    if (row.code == error) return row.text;
  return "unrecognized error code";
}

VGPU_EXPORT cudaError_t cudaGetDeviceCount(int* count) {
  return api("cudaGetDeviceCount", [&] {
    *count = rt().device_count;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaSetDevice(int device) {
  return api("cudaSetDevice", [&] {
    if (!valid_device(device)) return cudaErrorInvalidDevice;
    rt().set_device(device);
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGetDevice(int* device) {
  return api("cudaGetDevice", [&] {
    *device = rt().device();
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
  return api("cudaInitDevice",
             [&] { return valid_device(device) ? cudaSuccess : cudaErrorInvalidDevice; });
}
VGPU_EXPORT cudaError_t cudaSetDeviceFlags(unsigned) {
  return api("cudaSetDeviceFlags", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaGetDeviceFlags(unsigned* flags) {
  return api("cudaGetDeviceFlags", [&] {
    *flags = cudaDeviceScheduleAuto | cudaDeviceMapHost;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attr, int device) {
  return api("cudaDeviceGetAttribute", [&] {
    if (!valid_device(device)) return cudaErrorInvalidDevice;
    bool known;
    *value = attribute(attr, known);
    if (!known) {
      std::fprintf(stderr, "vgpu: device attribute %d is not supported\n", static_cast<int>(attr));
      return cudaErrorNotSupported;
    }
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  return api("cudaGetDeviceProperties", [&] {
    if (!valid_device(device)) return cudaErrorInvalidDevice;
    const DeviceModel& d = rt().machine.device;
    *p = {};
    std::snprintf(p->name, sizeof p->name, "%s", d.name.c_str());
    for (int i = 0; i < 16; ++i) p->uuid.bytes[i] = static_cast<char>(0x40 + device + i);
    p->totalGlobalMem = d.memory_bytes;
    p->sharedMemPerBlock = kStaticSharedLimit;
    p->regsPerBlock = p->regsPerMultiprocessor = static_cast<int>(kRegistersPerSm);
    p->warpSize = kLanes;
    p->memPitch = 0x7fffffff;
    p->maxThreadsPerBlock = static_cast<int>(kMaxThreadsPerBlock);
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->totalConstMem = 65536;
    p->major = d.major;
    p->minor = d.minor;
    p->textureAlignment = 512;
    p->multiProcessorCount = d.sms;
    p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = 1;
    p->pciBusID = 1 + device;
    p->asyncEngineCount = 2;
    p->memoryBusWidth = static_cast<int>(d.bus_width);
    p->l2CacheSize = static_cast<int>(d.l2_bytes);
    p->maxThreadsPerMultiProcessor = static_cast<int>(d.threads_per_sm);
    p->streamPrioritiesSupported = p->globalL1CacheSupported = p->localL1CacheSupported = 1;
    p->sharedMemPerMultiprocessor = d.shared_per_sm;
    p->managedMemory = p->concurrentManagedAccess = p->computePreemptionSupported = 1;
    p->canUseHostPointerForRegisteredMem = p->cooperativeLaunch = 1;
    p->sharedMemPerBlockOptin = d.shared_per_block_optin;
    p->maxBlocksPerMultiProcessor = static_cast<int>(d.blocks_per_sm);
    p->reservedSharedMemPerBlock = d.reserved_shared_per_block;
    p->hostRegisterSupported = p->memoryPoolsSupported = p->unifiedFunctionPointers = 1;
    p->clusterLaunch = d.major >= 9 ? 1 : 0;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  return api("cudaDeviceGetPCIBusId", [&] {
    if (!valid_device(device)) return cudaErrorInvalidDevice;
    std::snprintf(id, static_cast<size_t>(length), "0000:%02x:00.0", 1 + device);
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaDeviceSynchronize() {
  return api("cudaDeviceSynchronize", [] {
    const int device = rt().device();
    if (const cudaError_t e = rt().capture_forbids_waiting(device); e != cudaSuccess) return e;
    return rt().drain_all(device);
  });
}
VGPU_EXPORT cudaError_t cudaThreadSynchronize() { return cudaDeviceSynchronize(); }
VGPU_EXPORT cudaError_t cudaDeviceReset() {
  std::lock_guard lock(rt().mutex);
  if (rt().sticky == cudaSuccess) {
    try {
      rt().drain_all();
    } catch (const std::exception&) {
      // A fault of work that nobody waited for has been printed as a finding.
    }
  }
  rt().reset_device();
  return cudaSuccess;
}
VGPU_EXPORT cudaError_t cudaDeviceSetLimit(cudaLimit limit, size_t value) {
  return api("cudaDeviceSetLimit", [&] {
    if (limit == cudaLimitMallocHeapSize) rt().machine.heap_limit = value;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaDeviceGetLimit(size_t* value, cudaLimit limit) {
  return api("cudaDeviceGetLimit", [&] {
    *value = limit == cudaLimitStackSize        ? size_t{1024}
             : limit == cudaLimitPrintfFifoSize ? size_t{1} << 20
                                                : rt().machine.heap_limit;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaDeviceSetCacheConfig(cudaFuncCache) {
  return api("cudaDeviceSetCacheConfig", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return api("cudaDeviceGetStreamPriorityRange", [&] {
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = -5;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaDeviceCanAccessPeer(int* can, int a, int b) {
  return api("cudaDeviceCanAccessPeer", [&] {
    if (!valid_device(a) || !valid_device(b)) return cudaErrorInvalidDevice;
    *can = a != b ? 1 : 0;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return api("cudaDeviceEnablePeerAccess", [&] {
    const int device = rt().device();
    if (!valid_device(peer) || peer == device) return cudaErrorInvalidDevice;
    if (flags != 0) return cudaErrorInvalidValue;
    const bool fresh = rt().machine.peers.insert({device, peer}).second;
    return fresh ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled;
  });
}
VGPU_EXPORT cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  return api("cudaDeviceDisablePeerAccess", [&] {
    const int device = rt().device();
    if (!valid_device(peer)) return cudaErrorInvalidDevice;
    if (const cudaError_t e = rt().drain_all(device); e != cudaSuccess) return e;
    return rt().machine.peers.erase({device, peer}) != 0 ? cudaSuccess
                                                         : cudaErrorPeerAccessNotEnabled;
  });
}
VGPU_EXPORT cudaError_t cudaDriverGetVersion(int* version) {
  return api("cudaDriverGetVersion", [&] {
    *version = rt().driver_version;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaRuntimeGetVersion(int* version) {
  return api("cudaRuntimeGetVersion", [&] {
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function,
                                                         unsigned, unsigned long long,
                                                         cudaDriverEntryPointQueryResult* status) {
  return api("cudaGetDriverEntryPointByVersion", [&] {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    *function = driver == nullptr ? nullptr : dlsym(driver, symbol);
    if (status != nullptr)
      *status =
          *function != nullptr ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaProfilerStart() {
  return api("cudaProfilerStart", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaProfilerStop() {
  return api("cudaProfilerStop", [] { return cudaSuccess; });
}

namespace vgpu {
cudaError_t unsupported(const char* name) {
  return api(name, [&] {
    std::fprintf(stderr, "vgpu: %s is not supported\n", name);
    return cudaErrorNotSupported;
  });
}
}  // namespace vgpu

namespace vgpu {
int unsupported_call(const char* name);
int unsupported_call(const char* name) { return unsupported(name); }
}  // namespace vgpu
