// A stand-in for the few driver calls that programs link or look up.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "async/tensor_map.h"

#define VGPU_EXPORT extern "C" __attribute__((visibility("default")))

extern "C" int __cudaVgpuHasContext();  // in cudart/probe.cpp

VGPU_EXPORT CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
VGPU_EXPORT CUresult cuDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}
VGPU_EXPORT CUresult cuDeviceGetCount(int* count) {
  return static_cast<CUresult>(cudaGetDeviceCount(count));
}
VGPU_EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  int count = 0;
  const CUresult result = cuDeviceGetCount(&count);
  if (result != CUDA_SUCCESS) return result;
  if (ordinal < 0 || ordinal >= count) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}
VGPU_EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  cudaDeviceProp p;
  const cudaError_t e = cudaGetDeviceProperties(&p, device);
  if (e == cudaSuccess) std::snprintf(name, static_cast<size_t>(length), "%s", p.name);
  return static_cast<CUresult>(e);
}
VGPU_EXPORT CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute,
                                          CUdevice device) {
  // The two enumerations share their numbers.
  return static_cast<CUresult>(
      cudaDeviceGetAttribute(value, static_cast<cudaDeviceAttr>(attribute), device));
}
VGPU_EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  cudaDeviceProp p;
  const cudaError_t e = cudaGetDeviceProperties(&p, device);
  if (e == cudaSuccess) *bytes = p.totalGlobalMem;
  return static_cast<CUresult>(e);
}

namespace {

// The driver's names of errors; their numbers are the runtime's.
struct ErrorName {
  CUresult error;
  const char* name;
};
constexpr ErrorName kErrorNames[] = {
#define VGPU_ERROR(error) \
  { error, #error }
    VGPU_ERROR(CUDA_SUCCESS),
    VGPU_ERROR(CUDA_ERROR_INVALID_VALUE),
    VGPU_ERROR(CUDA_ERROR_OUT_OF_MEMORY),
    VGPU_ERROR(CUDA_ERROR_NOT_INITIALIZED),
    VGPU_ERROR(CUDA_ERROR_NO_DEVICE),
    VGPU_ERROR(CUDA_ERROR_INVALID_DEVICE),
    VGPU_ERROR(CUDA_ERROR_INVALID_IMAGE),
    VGPU_ERROR(CUDA_ERROR_INVALID_CONTEXT),
    VGPU_ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU),
    VGPU_ERROR(CUDA_ERROR_INVALID_PTX),
    VGPU_ERROR(CUDA_ERROR_INVALID_HANDLE),
    VGPU_ERROR(CUDA_ERROR_NOT_FOUND),
    VGPU_ERROR(CUDA_ERROR_NOT_READY),
    VGPU_ERROR(CUDA_ERROR_ILLEGAL_ADDRESS),
    VGPU_ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES),
    VGPU_ERROR(CUDA_ERROR_LAUNCH_TIMEOUT),
    VGPU_ERROR(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED),
    VGPU_ERROR(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED),
    VGPU_ERROR(CUDA_ERROR_ASSERT),
    VGPU_ERROR(CUDA_ERROR_MISALIGNED_ADDRESS),
    VGPU_ERROR(CUDA_ERROR_INVALID_ADDRESS_SPACE),
    VGPU_ERROR(CUDA_ERROR_LAUNCH_FAILED),
    VGPU_ERROR(CUDA_ERROR_NOT_SUPPORTED),
    VGPU_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
    VGPU_ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED),
    VGPU_ERROR(CUDA_ERROR_UNKNOWN),
#undef VGPU_ERROR
};
const char* name_of(CUresult error) {
  for (const ErrorName& row : kErrorNames)
    if (row.error == error) return row.name;
  return nullptr;
}

}  // namespace

VGPU_EXPORT CUresult cuGetErrorString(CUresult error, const char** text) {
  const bool known = name_of(error) != nullptr;
  *text = known ? cudaGetErrorString(static_cast<cudaError_t>(error)) : nullptr;
  return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
VGPU_EXPORT CUresult cuGetErrorName(CUresult error, const char** text) {
  *text = name_of(error);
  return *text != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
VGPU_EXPORT CUresult cuCtxGetDevice(CUdevice* device) {
  if (__cudaVgpuHasContext() == 0) return CUDA_ERROR_INVALID_CONTEXT;
  return static_cast<CUresult>(cudaGetDevice(device));
}
VGPU_EXPORT CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = nullptr;
  if (__cudaVgpuHasContext() == 0) return CUDA_SUCCESS;
  int device = 0;
  const cudaError_t e = cudaGetDevice(&device);
  *context = reinterpret_cast<CUcontext>(static_cast<uintptr_t>(device) + 1);
  return static_cast<CUresult>(e);
}
VGPU_EXPORT CUresult cuCtxSynchronize() {
  if (__cudaVgpuHasContext() == 0) return CUDA_ERROR_INVALID_CONTEXT;
  return static_cast<CUresult>(cudaDeviceSynchronize());
}
VGPU_EXPORT CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute,
                                           CUdeviceptr pointer) {
  cudaPointerAttributes a;
  const cudaError_t e = cudaPointerGetAttributes(&a, reinterpret_cast<const void*>(pointer));
  if (e != cudaSuccess) return static_cast<CUresult>(e);
  if (a.type == cudaMemoryTypeUnregistered) return CUDA_ERROR_INVALID_VALUE;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      *static_cast<unsigned*>(data) =
          a.type == cudaMemoryTypeHost ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      *static_cast<int*>(data) = a.device;
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      *static_cast<int*>(data) = a.type == cudaMemoryTypeManaged ? 1 : 0;
      return CUDA_SUCCESS;
    default:
      std::fprintf(stderr, "vgpu: pointer attribute %d is not supported\n",
                   static_cast<int>(attribute));
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

// Drivers known so far take any aligned address. Under VGPU_MAP_ADDRESSES=own this one is stricter.
static bool may_be_encoded(const void* address) {
  const char* rule = std::getenv("VGPU_MAP_ADDRESSES");
  if (rule == nullptr || std::strcmp(rule, "own") != 0) return true;
  cudaPointerAttributes a;
  return cudaPointerGetAttributes(&a, address) == cudaSuccess && a.type == cudaMemoryTypeDevice;
}

VGPU_EXPORT CUresult cuTensorMapEncodeTiled(
    CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
    const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
    const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
    CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  static_assert(sizeof(cuuint64_t) == sizeof(vgpu::u64));
  // Nothing is read from the context, but drivers want one (580.159 on an H100 does).
  if (__cudaVgpuHasContext() == 0) return CUDA_ERROR_INVALID_CONTEXT;
  const std::string problem = [&]() -> std::string {
    if (map == nullptr || dims == nullptr || box == nullptr || steps == nullptr ||
        strides == nullptr || address == nullptr)
      return "a pointer is null";
    if (reinterpret_cast<uintptr_t>(map) % 64 != 0) return "the map is not aligned to 64 bytes";
    if (!may_be_encoded(address)) return "the address is no device memory";
    vgpu::TensorMap encoded;
    std::string wrong = vgpu::TensorMap::encode(
        {static_cast<vgpu::u32>(type), rank, reinterpret_cast<vgpu::u64>(address), dims, strides,
         box, steps, static_cast<vgpu::u32>(interleave), static_cast<vgpu::u32>(swizzle),
         static_cast<vgpu::u32>(promotion), static_cast<vgpu::u32>(fill)},
        encoded);
    if (!wrong.empty()) return wrong;
    *map = {};
    std::memcpy(map, &encoded, sizeof encoded);
    return "";
  }();
  if (problem.empty()) return CUDA_SUCCESS;
  std::fprintf(stderr, "vgpu: cuTensorMapEncodeTiled: %s\n", problem.c_str());
  return CUDA_ERROR_INVALID_VALUE;
}
VGPU_EXPORT CUresult cuTensorMapReplaceAddress(CUtensorMap* map, void* address) {
  vgpu::TensorMap known;
  // Nobody has asked a driver whether this wants a context, as encoding does: the stricter way.
  if (__cudaVgpuHasContext() == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (map == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(static_cast<void*>(&known), map, sizeof known);
  if (known.magic != vgpu::TensorMap::kMagic || reinterpret_cast<uintptr_t>(address) % 16 != 0)
    return CUDA_ERROR_INVALID_VALUE;
  known.address = reinterpret_cast<vgpu::u64>(address);
  std::memcpy(map, &known, sizeof known);
  return CUDA_SUCCESS;
}
VGPU_EXPORT CUresult cuTensorMapEncodeIm2col(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                             const cuuint64_t*, const cuuint64_t*, const int*,
                                             const int*, cuuint32_t, cuuint32_t, const cuuint32_t*,
                                             CUtensorMapInterleave, CUtensorMapSwizzle,
                                             CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  std::fputs("vgpu: tensor maps of im2col mode are not supported\n", stderr);
  return CUDA_ERROR_NOT_SUPPORTED;
}
