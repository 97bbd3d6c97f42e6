// Memory: allocation, pools, copies, fills, symbols, pointer attributes.
#include <algorithm>
#include <cstdlib>

#include "cudart/api.h"

using namespace vgpu;

namespace {

u64 address(const void* p) { return reinterpret_cast<u64>(p); }

cudaError_t allocate(void** out, size_t size, bool check_capture = true) {
  Runtime& r = rt();
  if (out == nullptr) return cudaErrorInvalidValue;
  if (check_capture) {
    const cudaError_t e = r.capture_forbids_unsafe();
    if (e != cudaSuccess) return e;
  }
  *out = nullptr;
  if (size == 0) return cudaSuccess;
  const int device = r.device();
  if (r.machine.memory.live_bytes(device) + size > r.machine.device.memory_bytes)
    return cudaErrorMemoryAllocation;
  const Allocation* a = r.machine.memory.allocate(size, Allocation::Kind::kDevice, device);
  if (a == nullptr) return cudaErrorMemoryAllocation;
  *out = reinterpret_cast<void*>(a->base);
  return cudaSuccess;
}

cudaError_t allocate_host(void** out, size_t size, Allocation::Kind kind) {
  if (out == nullptr) return cudaErrorInvalidValue;
  if (const cudaError_t e = rt().capture_forbids_unsafe(); e != cudaSuccess) return e;
  *out = nullptr;
  if (size == 0) return cudaSuccess;
  void* p = std::aligned_alloc(4096, align_up(size, 4096));
  if (p == nullptr) return cudaErrorMemoryAllocation;
  rt().machine.memory.adopt_host(p, size, kind, rt().device());
  *out = p;
  return cudaSuccess;
}

cudaError_t release(void* p) {
  Runtime& r = rt();
  if (p == nullptr) return cudaSuccess;
  if (const cudaError_t e = r.capture_forbids_unsafe(); e != cudaSuccess) return e;
  if (const cudaError_t e = r.drain_all(); e != cudaSuccess) return e;
  const Allocation* a = r.machine.memory.find(address(p));
  if (a == nullptr || a->base != address(p) || a->freed) return cudaErrorInvalidValue;
  const bool managed = a->kind == Allocation::Kind::kManaged;
  if (a->kind != Allocation::Kind::kDevice && !managed) return cudaErrorInvalidValue;
  r.machine.memory.release(address(p));
  if (managed) std::free(p);
  return cudaSuccess;
}

cudaError_t symbol_address(const void* symbol, void** out, size_t* size) {
  const auto it = rt().variables.find(symbol);
  if (it == rt().variables.end()) return cudaErrorInvalidSymbol;
  const Allocation* a = rt().variable(it->second, rt().device());
  if (a == nullptr) return cudaErrorInvalidSymbol;
  if (out != nullptr) *out = reinterpret_cast<void*>(a->base);
  if (size != nullptr) *size = it->second.size;
  return cudaSuccess;
}

cudaError_t copy_symbol(void* host, const void* symbol, size_t count, size_t offset, bool to_symbol,
                        cudaMemcpyKind kind, cudaStream_t stream, bool asynchronous) {
  void* base = nullptr;
  size_t size = 0;
  const cudaError_t e = symbol_address(symbol, &base, &size);
  if (e != cudaSuccess) return e;
  if (offset + count > size) return cudaErrorInvalidValue;
  void* at = static_cast<u8*>(base) + offset;
  return to_symbol ? rt().copy(at, host, count, kind, stream, asynchronous)
                   : rt().copy(host, at, count, kind, stream, asynchronous);
}

// A pool is a name: all pools share the device's memory.
cudaMemPool_t pool_of(int device) {
  return reinterpret_cast<cudaMemPool_t>(static_cast<uintptr_t>(0x1000 + device));
}

}  // namespace

VGPU_EXPORT cudaError_t cudaMalloc(void** p, size_t size) {
  return api(
      "cudaMalloc", [&] { return allocate(p, size); }, cudaErrorMemoryAllocation);
}
VGPU_EXPORT cudaError_t cudaFree(void* p) {
  return api("cudaFree", [&] { return release(p); });
}
VGPU_EXPORT cudaError_t cudaMallocHost(void** p, size_t size) {
  return api(
      "cudaMallocHost", [&] { return allocate_host(p, size, Allocation::Kind::kHost); },
      cudaErrorMemoryAllocation);
}
VGPU_EXPORT cudaError_t cudaHostAlloc(void** p, size_t size, unsigned) {
  return api(
      "cudaHostAlloc", [&] { return allocate_host(p, size, Allocation::Kind::kHost); },
      cudaErrorMemoryAllocation);
}
VGPU_EXPORT cudaError_t cudaFreeHost(void* p) {
  return api("cudaFreeHost", [&] {
    if (p == nullptr) return cudaSuccess;
    if (const cudaError_t e = rt().drain_all(); e != cudaSuccess) return e;
    if (!rt().machine.memory.release(address(p))) return cudaErrorInvalidValue;
    std::free(p);
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaMallocManaged(void** p, size_t size, unsigned) {
  return api(
      "cudaMallocManaged", [&] { return allocate_host(p, size, Allocation::Kind::kManaged); },
      cudaErrorMemoryAllocation);
}
VGPU_EXPORT cudaError_t cudaMallocPitch(void** p, size_t* pitch, size_t width, size_t height) {
  return api(
      "cudaMallocPitch",
      [&] {
        *pitch = align_up(width, 512);
        return allocate(p, *pitch * height);
      },
      cudaErrorMemoryAllocation);
}
VGPU_EXPORT cudaError_t cudaHostRegister(void* p, size_t size, unsigned) {
  return api("cudaHostRegister", [&] {
    if (p == nullptr || size == 0) return cudaErrorInvalidValue;
    if (rt().machine.memory.find(address(p)) != nullptr)
      return cudaErrorHostMemoryAlreadyRegistered;
    rt().machine.memory.adopt_host(p, size, Allocation::Kind::kHost, rt().device());
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaHostUnregister(void* p) {
  return api("cudaHostUnregister", [&] {
    if (const cudaError_t e = rt().drain_all(); e != cudaSuccess) return e;
    return rt().machine.memory.release(address(p)) ? cudaSuccess : cudaErrorHostMemoryNotRegistered;
  });
}
VGPU_EXPORT cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  return api("cudaHostGetDevicePointer", [&] {
    *device = host;
    return rt().machine.memory.find(address(host)) != nullptr ? cudaSuccess : cudaErrorInvalidValue;
  });
}
VGPU_EXPORT cudaError_t cudaHostGetFlags(unsigned* flags, void* host) {
  return api("cudaHostGetFlags", [&] {
    *flags = cudaHostAllocMapped;
    return rt().machine.memory.find(address(host)) != nullptr ? cudaSuccess : cudaErrorInvalidValue;
  });
}
VGPU_EXPORT cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return api("cudaMemGetInfo", [&] {
    *total = rt().machine.device.memory_bytes;
    *free = *total - rt().machine.memory.live_bytes(rt().device());
    return cudaSuccess;
  });
}

VGPU_EXPORT cudaError_t cudaMallocAsync(void** p, size_t size, cudaStream_t stream) {
  return api(
      "cudaMallocAsync",
      [&] {
        const StreamState* s = rt().stream(stream);
        if (s == nullptr) return cudaErrorInvalidResourceHandle;
        if (s->capture != nullptr) {
          // The address is the graph's for good; every replay finds the memory undefined.
          const cudaError_t e = allocate(p, size, false);
          if (e != cudaSuccess) return e;
          return rt().enqueue(rt().stream(stream), cudaGraphNodeTypeMemAlloc, [at = *p, size] {
            const Allocation* a = rt().machine.memory.find(address(at));
            if (a != nullptr) rt().machine.memory.set_undefined(*a, address(at), size);
            return cudaSuccess;
          });
        }
        return allocate(p, size, false);
      },
      cudaErrorMemoryAllocation);
}
VGPU_EXPORT cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  return api("cudaFreeAsync", [&] {
    StreamState* s = rt().stream(stream);
    if (s == nullptr) return cudaErrorInvalidResourceHandle;
    if (p == nullptr) return cudaSuccess;
    const Allocation* a = rt().machine.memory.find(address(p));
    if (a == nullptr || a->base != address(p) || a->freed) return cudaErrorInvalidValue;
    if (s->capture != nullptr)
      return rt().enqueue(s, cudaGraphNodeTypeMemFree, [] { return cudaSuccess; });
    return rt().enqueue(s, cudaGraphNodeTypeMemFree, [p] {
      return rt().machine.memory.release(address(p)) ? cudaSuccess : cudaErrorInvalidValue;
    });
  });
}
VGPU_EXPORT cudaError_t cudaMallocFromPoolAsync(void** p, size_t size, cudaMemPool_t,
                                                cudaStream_t stream) {
  return cudaMallocAsync(p, size, stream);
}
VGPU_EXPORT cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  return api("cudaDeviceGetDefaultMemPool", [&] {
    *pool = pool_of(device);
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  return cudaDeviceGetDefaultMemPool(pool, device);
}
VGPU_EXPORT cudaError_t cudaDeviceSetMemPool(int, cudaMemPool_t) {
  return api("cudaDeviceSetMemPool", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* props) {
  return api("cudaMemPoolCreate", [&] {
    *pool = pool_of(props->location.id);
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaMemPoolDestroy(cudaMemPool_t) {
  return api("cudaMemPoolDestroy", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) {
  return api("cudaMemPoolTrimTo", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  return api("cudaMemPoolSetAttribute", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute,
                                                void* value) {
  return api("cudaMemPoolGetAttribute", [&] {
    switch (attribute) {
      case cudaMemPoolAttrReleaseThreshold:
      case cudaMemPoolAttrReservedMemCurrent:
      case cudaMemPoolAttrReservedMemHigh:
      case cudaMemPoolAttrUsedMemCurrent:
      case cudaMemPoolAttrUsedMemHigh:
        *static_cast<u64*>(value) = rt().machine.memory.live_bytes(rt().device());
        return cudaSuccess;
      default:
        *static_cast<int*>(value) = 1;
        return cudaSuccess;
    }
  });
}
VGPU_EXPORT cudaError_t cudaMemPoolSetAccess(cudaMemPool_t, const cudaMemAccessDesc*, size_t) {
  return api("cudaMemPoolSetAccess", [] { return cudaSuccess; });
}

VGPU_EXPORT cudaError_t cudaMemcpy(void* dst, const void* src, size_t count, cudaMemcpyKind kind) {
  return api("cudaMemcpy", [&] { return rt().copy(dst, src, count, kind, nullptr, false); });
}
VGPU_EXPORT cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t count,
                                        cudaMemcpyKind kind, cudaStream_t stream) {
  return api("cudaMemcpyAsync", [&] { return rt().copy(dst, src, count, kind, stream, true); });
}
VGPU_EXPORT cudaError_t cudaMemcpyPeer(void* dst, int, const void* src, int, size_t count) {
  return api("cudaMemcpyPeer",
             [&] { return rt().copy(dst, src, count, cudaMemcpyDefault, nullptr, false); });
}
VGPU_EXPORT cudaError_t cudaMemcpyPeerAsync(void* dst, int, const void* src, int, size_t count,
                                            cudaStream_t stream) {
  return api("cudaMemcpyPeerAsync",
             [&] { return rt().copy(dst, src, count, cudaMemcpyDefault, stream, true); });
}
VGPU_EXPORT cudaError_t cudaMemcpy2D(void* dst, size_t dpitch, const void* src, size_t spitch,
                                     size_t width, size_t height, cudaMemcpyKind kind) {
  return api("cudaMemcpy2D", [&] {
    return rt().copy_2d(dst, dpitch, src, spitch, width, height, kind, nullptr, false);
  });
}
VGPU_EXPORT cudaError_t cudaMemcpy2DAsync(void* dst, size_t dpitch, const void* src, size_t spitch,
                                          size_t width, size_t height, cudaMemcpyKind kind,
                                          cudaStream_t stream) {
  return api("cudaMemcpy2DAsync", [&] {
    return rt().copy_2d(dst, dpitch, src, spitch, width, height, kind, stream, true);
  });
}
VGPU_EXPORT cudaError_t cudaMemset(void* dst, int value, size_t count) {
  return api("cudaMemset", [&] { return rt().fill(dst, value, count, nullptr, false); });
}
VGPU_EXPORT cudaError_t cudaMemsetAsync(void* dst, int value, size_t count, cudaStream_t stream) {
  return api("cudaMemsetAsync", [&] { return rt().fill(dst, value, count, stream, true); });
}
VGPU_EXPORT cudaError_t cudaMemset2D(void* dst, size_t pitch, int value, size_t width,
                                     size_t height) {
  return api("cudaMemset2D", [&] {
    for (size_t row = 0; row < height; ++row) {
      const cudaError_t e =
          rt().fill(static_cast<u8*>(dst) + row * pitch, value, width, nullptr, false);
      if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
  });
}

VGPU_EXPORT cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* src, size_t count,
                                           size_t offset, cudaMemcpyKind kind) {
  return api("cudaMemcpyToSymbol", [&] {
    return copy_symbol(const_cast<void*>(src), symbol, count, offset, true, kind, nullptr, false);
  });
}
VGPU_EXPORT cudaError_t cudaMemcpyFromSymbol(void* dst, const void* symbol, size_t count,
                                             size_t offset, cudaMemcpyKind kind) {
  return api("cudaMemcpyFromSymbol",
             [&] { return copy_symbol(dst, symbol, count, offset, false, kind, nullptr, false); });
}
VGPU_EXPORT cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* src, size_t count,
                                                size_t offset, cudaMemcpyKind kind,
                                                cudaStream_t stream) {
  return api("cudaMemcpyToSymbolAsync", [&] {
    return copy_symbol(const_cast<void*>(src), symbol, count, offset, true, kind, stream, true);
  });
}
VGPU_EXPORT cudaError_t cudaMemcpyFromSymbolAsync(void* dst, const void* symbol, size_t count,
                                                  size_t offset, cudaMemcpyKind kind,
                                                  cudaStream_t stream) {
  return api("cudaMemcpyFromSymbolAsync",
             [&] { return copy_symbol(dst, symbol, count, offset, false, kind, stream, true); });
}
VGPU_EXPORT cudaError_t cudaGetSymbolAddress(void** p, const void* symbol) {
  return api("cudaGetSymbolAddress", [&] { return symbol_address(symbol, p, nullptr); });
}
VGPU_EXPORT cudaError_t cudaGetSymbolSize(size_t* size, const void* symbol) {
  return api("cudaGetSymbolSize", [&] { return symbol_address(symbol, nullptr, size); });
}

VGPU_EXPORT cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* p) {
  return api("cudaPointerGetAttributes", [&] {
    if (out == nullptr) return cudaErrorInvalidValue;
    *out = {};
    const Allocation* a = rt().machine.memory.find(address(p));
    if (a == nullptr || a->freed) {
      out->type = cudaMemoryTypeUnregistered;
      out->device = cudaInvalidDeviceId;
      out->hostPointer = const_cast<void*>(p);
      return cudaSuccess;
    }
    out->device = a->device;
    out->devicePointer = const_cast<void*>(p);
    switch (a->kind) {
      case Allocation::Kind::kHost:
        out->type = cudaMemoryTypeHost;
        out->hostPointer = const_cast<void*>(p);
        break;
      case Allocation::Kind::kManaged:
        out->type = cudaMemoryTypeManaged;
        out->hostPointer = const_cast<void*>(p);
        break;
      default:
        out->type = cudaMemoryTypeDevice;
    }
    return cudaSuccess;
  });
}
// For the stand-in libraries that compute on the CPU in stream order.
VGPU_EXPORT void* __cudaVgpuView(const void* pointer, size_t bytes, u64** defined, u64* offset) {
  std::lock_guard lock(rt().mutex);
  Allocation* a;
  u8* view = rt().host_view(pointer, bytes, a);
  if (a == nullptr) return nullptr;
  *defined = a->defined;
  *offset = address(pointer) - a->base;
  return view;
}

// CUDA 12 takes a device where CUDA 13 takes a location, and flags beside it.
#if CUDART_VERSION >= 13000
VGPU_EXPORT cudaError_t cudaMemAdvise(const void*, size_t, cudaMemoryAdvise, cudaMemLocation) {
#else
VGPU_EXPORT cudaError_t cudaMemAdvise(const void*, size_t, cudaMemoryAdvise, int) {
#endif
  return api("cudaMemAdvise", [] { return cudaSuccess; });
}
#if CUDART_VERSION >= 13000
VGPU_EXPORT cudaError_t cudaMemPrefetchAsync(const void*, size_t, cudaMemLocation, unsigned,
                                             cudaStream_t) {
#else
VGPU_EXPORT cudaError_t cudaMemPrefetchAsync(const void*, size_t, int, cudaStream_t) {
#endif
  return api("cudaMemPrefetchAsync", [] { return cudaSuccess; });
}
