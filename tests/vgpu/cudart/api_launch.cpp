// Registration of modules, launches, functions, occupancy.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cudart/api.h"

using namespace vgpu;

namespace {

struct CallConfiguration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};
thread_local std::vector<CallConfiguration> t_configurations;

}  // namespace

VGPU_EXPORT void** __cudaRegisterFatBinary(void* wrapper) {
  Runtime& r = rt();
  std::lock_guard lock(r.mutex);
  return reinterpret_cast<void**>(r.add_module(wrapper));
}
VGPU_EXPORT void __cudaRegisterFatBinaryEnd(void**) {}
VGPU_EXPORT void __cudaUnregisterFatBinary(void**) { rt().finish(); }
VGPU_EXPORT char __cudaInitModule(void** handle) {
  Runtime& r = rt();
  std::lock_guard lock(r.mutex);
  auto* module = reinterpret_cast<LoadedModule*>(handle);
  if (module != nullptr && !module->managed.empty()) {
    try {
      r.prepare(*module, r.device());
    } catch (const std::exception&) {
      // The launch says what is wrong.
    }
  }
  return 1;
}

VGPU_EXPORT void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name,
                                        int, void*, void*, void*, void*, int*) {
  Runtime& r = rt();
  std::lock_guard lock(r.mutex);
  auto kernel = std::make_unique<Kernel>();
  kernel->module = reinterpret_cast<LoadedModule*>(handle);
  kernel->name = name;
  r.kernels[host] = std::move(kernel);
}
VGPU_EXPORT void __cudaRegisterVar(void** handle, char* host, char*, const char* name, int,
                                   size_t size, int, int) {
  Runtime& r = rt();
  std::lock_guard lock(r.mutex);
  r.variables[host] = {reinterpret_cast<LoadedModule*>(handle), name, size};
}
// A managed variable is reached through a pointer on the host, set when it is registered. Host code
// calls __cudaInitModule before it uses the pointer.
VGPU_EXPORT void __cudaRegisterManagedVar(void** handle, void** pointer, char*, const char* name,
                                          int, size_t size, int, int) {
  Runtime& r = rt();
  std::lock_guard lock(r.mutex);
  auto* module = reinterpret_cast<LoadedModule*>(handle);
  void* p = std::aligned_alloc(4096, align_up(std::max<size_t>(size, 1), 4096));
  if (p == nullptr) return;
  std::memset(p, 0, size);
  Allocation* a = r.machine.memory.adopt_host(p, size, Allocation::Kind::kManaged, 0);
  a->name = name;
  module->managed[name] = a;
  *pointer = p;
  for (const void* key : {static_cast<const void*>(pointer), static_cast<const void*>(p)})
    r.variables[key] = {module, name, size};
}

VGPU_EXPORT unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared,
                                                 void* stream) {
  t_configurations.push_back({grid, block, shared, static_cast<cudaStream_t>(stream)});
  return 0;
}
VGPU_EXPORT cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared,
                                                   void* stream) {
  if (t_configurations.empty()) return cudaErrorMissingConfiguration;
  const CallConfiguration& c = t_configurations.back();
  *grid = c.grid;
  *block = c.block;
  *shared = c.shared;
  *static_cast<cudaStream_t*>(stream) = c.stream;
  t_configurations.pop_back();
  return cudaSuccess;
}

VGPU_EXPORT cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* entry) {
  Runtime& r = rt();
  std::lock_guard lock(r.mutex);
  *kernel = reinterpret_cast<cudaKernel_t>(r.find_kernel(entry));
  return *kernel == nullptr ? cudaErrorInvalidDeviceFunction : cudaSuccess;
}
VGPU_EXPORT cudaError_t cudaGetKernel(cudaKernel_t* kernel, const void* entry) {
  return __cudaGetKernel(kernel, entry);
}
VGPU_EXPORT cudaError_t cudaGetFuncBySymbol(cudaFunction_t* function, const void* symbol) {
  return api("cudaGetFuncBySymbol", [&] {
    *function = reinterpret_cast<cudaFunction_t>(rt().find_kernel(symbol));
    return *function == nullptr ? cudaErrorInvalidDeviceFunction : cudaSuccess;
  });
}

VGPU_EXPORT cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** args,
                                           size_t shared, cudaStream_t stream) {
  return api(
      "cudaLaunchKernel", [&] { return rt().launch(kernel, grid, block, args, shared, stream); },
      cudaErrorLaunchOutOfResources);
}
VGPU_EXPORT cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** args,
                                         size_t shared, cudaStream_t stream) {
  return api(
      "cudaLaunchKernel", [&] { return rt().launch(function, grid, block, args, shared, stream); },
      cudaErrorLaunchOutOfResources);
}
VGPU_EXPORT cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block,
                                                    void** args, size_t shared,
                                                    cudaStream_t stream) {
  return api(
      "cudaLaunchCooperativeKernel",
      [&] {
        return rt().launch(function, grid, block, args, shared, stream, {.cooperative = true});
      },
      cudaErrorLaunchOutOfResources);
}
VGPU_EXPORT cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                            void** args) {
  return api(
      "cudaLaunchKernelExC",
      [&]() -> cudaError_t {
        LaunchOptions options;
        for (unsigned i = 0; i < config->numAttrs; ++i) {
          const cudaLaunchAttribute& a = config->attrs[i];
          switch (a.id) {
            case cudaLaunchAttributeCooperative:
              options.cooperative = a.val.cooperative != 0;
              break;
            case cudaLaunchAttributeClusterDimension:
              options.cluster = {a.val.clusterDim.x, a.val.clusterDim.y, a.val.clusterDim.z};
              break;
            case cudaLaunchAttributeProgrammaticStreamSerialization:
              options.programmatic = a.val.programmaticStreamSerializationAllowed != 0;
              break;
            default:
              break;  // priorities and policies change when, not what
          }
        }
        return rt().launch(function, config->gridDim, config->blockDim, args,
                           config->dynamicSmemBytes, config->stream, options);
      },
      cudaErrorLaunchOutOfResources);
}

VGPU_EXPORT cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute,
                                             int value) {
  return api("cudaFuncSetAttribute", [&] {
    Kernel* k = rt().find_kernel(function);
    if (k == nullptr) return cudaErrorInvalidDeviceFunction;
    switch (attribute) {
      case cudaFuncAttributeMaxDynamicSharedMemorySize: {
        const auto program = rt().program(*k, rt().device());
        if (value < 0 || static_cast<u32>(value) + program->static_shared >
                             rt().machine.device.shared_per_block_optin)
          return cudaErrorInvalidValue;
        k->max_dynamic_shared = value;
        return cudaSuccess;
      }
      case cudaFuncAttributePreferredSharedMemoryCarveout:
        k->preferred_carveout = value;
        return cudaSuccess;
      case cudaFuncAttributeNonPortableClusterSizeAllowed:
        k->large_clusters = value != 0;
        return cudaSuccess;
      default:
        return cudaErrorInvalidValue;
    }
  });
}
VGPU_EXPORT cudaError_t cudaFuncSetCacheConfig(const void*, cudaFuncCache) {
  return api("cudaFuncSetCacheConfig", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes,
                                              const void* function) {
  return api("cudaFuncGetAttributes", [&] {
    Kernel* k = rt().find_kernel(function);
    if (k == nullptr) return cudaErrorInvalidDeviceFunction;
    if (!k->module->failure.empty()) return cudaErrorNoKernelImageForDevice;
    const auto p = rt().program(*k, rt().device());
    *attributes = {};
    attributes->sharedSizeBytes = p->static_shared;
    attributes->localSizeBytes = p->max_frame_bytes;
    const u32 threads = p->maxntid[0] * std::max(1u, p->maxntid[1]) * std::max(1u, p->maxntid[2]);
    attributes->maxThreadsPerBlock = static_cast<int>(threads != 0 ? threads : kMaxThreadsPerBlock);
    attributes->clusterDimMustBeSet = 0;
    attributes->requiredClusterWidth = static_cast<int>(p->cluster[0]);
    attributes->requiredClusterHeight = static_cast<int>(p->cluster[1]);
    attributes->requiredClusterDepth = static_cast<int>(p->cluster[2]);
    attributes->nonPortableClusterSizeAllowed = k->large_clusters ? 1 : 0;
    attributes->numRegs = static_cast<int>(p->registers);
    attributes->ptxVersion = k->module->image->capability;
    attributes->binaryVersion = rt().machine.device.capability();
    attributes->maxDynamicSharedSizeBytes = k->max_dynamic_shared;
    attributes->preferredShmemCarveout = k->preferred_carveout;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaFuncGetName(const char** name, const void* function) {
  return api("cudaFuncGetName", [&] {
    const Kernel* k = rt().find_kernel(function);
    if (k == nullptr) return cudaErrorInvalidDeviceFunction;
    *name = k->name.c_str();
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaFuncGetParamInfo(const void* function, size_t index, size_t* offset,
                                             size_t* size) {
  return api("cudaFuncGetParamInfo", [&] {
    Kernel* k = rt().find_kernel(function);
    if (k == nullptr) return cudaErrorInvalidDeviceFunction;
    const auto p = rt().program(*k, rt().device());
    if (index >= p->params.size()) return cudaErrorInvalidValue;
    *offset = p->params[index].offset;
    if (size != nullptr) *size = p->params[index].bytes;
    return cudaSuccess;
  });
}

namespace {

cudaError_t occupancy(int* blocks, const void* function, int block_size, size_t dynamic) {
  Kernel* k = rt().find_kernel(function);
  if (k == nullptr) return cudaErrorInvalidDeviceFunction;
  if (block_size <= 0) return cudaErrorInvalidValue;
  const auto p = rt().program(*k, rt().device());
  *blocks =
      static_cast<int>(blocks_per_sm(rt().machine.device, static_cast<u32>(block_size),
                                     p->registers, p->static_shared + static_cast<u32>(dynamic)));
  return cudaSuccess;
}

}  // namespace

VGPU_EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks,
                                                                      const void* function,
                                                                      int block_size,
                                                                      size_t dynamic) {
  return api("cudaOccupancyMaxActiveBlocksPerMultiprocessor",
             [&] { return occupancy(blocks, function, block_size, dynamic); });
}
VGPU_EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int* blocks, const void* function, int block_size, size_t dynamic, unsigned) {
  return api("cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags",
             [&] { return occupancy(blocks, function, block_size, dynamic); });
}
VGPU_EXPORT cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t* bytes,
                                                                  const void* function, int blocks,
                                                                  int) {
  return api("cudaOccupancyAvailableDynamicSMemPerBlock", [&] {
    Kernel* k = rt().find_kernel(function);
    if (k == nullptr) return cudaErrorInvalidDeviceFunction;
    if (blocks <= 0) return cudaErrorInvalidValue;
    const auto p = rt().program(*k, rt().device());
    const DeviceModel& d = rt().machine.device;
    const u32 used = p->static_shared + d.reserved_shared_per_block;
    const u32 each = d.shared_per_sm / static_cast<u32>(blocks);
    *bytes = each > used ? std::min(each - used, d.shared_per_block_optin - p->static_shared) : 0;
    return cudaSuccess;
  });
}

// Clusters whose CTAs fit on the device together. A real device may hold fewer: a cluster stays
// within a part of it.
VGPU_EXPORT cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* function,
                                                       const cudaLaunchConfig_t* config) {
  return api("cudaOccupancyMaxActiveClusters", [&] {
    Kernel* k = rt().find_kernel(function);
    if (k == nullptr) return cudaErrorInvalidDeviceFunction;
    dim3 cluster{0, 0, 0};
    for (unsigned i = 0; i < config->numAttrs; ++i) {
      const cudaLaunchAttribute& a = config->attrs[i];
      if (a.id == cudaLaunchAttributeClusterDimension)
        cluster = {a.val.clusterDim.x, a.val.clusterDim.y, a.val.clusterDim.z};
    }
    const auto p = rt().program(*k, rt().device());
    if (const cudaError_t e = rt().cluster_dims(*k, *p, config->gridDim, cluster); e != cudaSuccess)
      return e;
    int blocks = 0;
    const dim3 b = config->blockDim;
    const cudaError_t e =
        occupancy(&blocks, function, static_cast<int>(b.x * b.y * b.z), config->dynamicSmemBytes);
    if (e != cudaSuccess) return e;
    const int size = cluster.x == 0 ? 1 : static_cast<int>(cluster.x * cluster.y * cluster.z);
    *clusters = blocks * rt().machine.device.sms / size;
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaOccupancyMaxPotentialClusterSize(int* size, const void* function,
                                                             const cudaLaunchConfig_t*) {
  return api("cudaOccupancyMaxPotentialClusterSize", [&] {
    Kernel* k = rt().find_kernel(function);
    if (k == nullptr) return cudaErrorInvalidDeviceFunction;
    *size = rt().machine.device.major < 9 ? 1 : k->large_clusters ? 16 : 8;
    return cudaSuccess;
  });
}
