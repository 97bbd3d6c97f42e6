// Streams as queues of work, and the work itself: launches, copies, fills.
#include <algorithm>
#include <cstdio>

#include "common/error.h"
#include "cudart/runtime.h"

namespace vgpu {

StreamState* Runtime::stream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread)
    return streams[static_cast<size_t>(device())].get();
  for (auto& s : streams)
    if (s.get() == reinterpret_cast<StreamState*>(handle)) return s->destroyed ? nullptr : s.get();
  return nullptr;
}

StreamState* Runtime::new_stream(unsigned flags, int priority) {
  streams.push_back(std::make_unique<StreamState>());
  StreamState* s = streams.back().get();
  s->device = device();
  s->flags = flags;
  s->priority = priority;
  s->id = streams.size();
  return s;
}

// Work goes to the graph while the stream is captured. Otherwise it is queued; the default stream
// and the streams that synchronise with it take turns, so one's queue is empty before the other's
// gets something. Whether queued work starts now is the seed's choice.
cudaError_t Runtime::enqueue(StreamState* s, cudaGraphNodeType type,
                             std::function<cudaError_t()> run) {
  if (s == nullptr) return cudaErrorInvalidResourceHandle;
  if (s->capture != nullptr) {
    if (s->capture->capture && s->capture->capture->broken)
      return cudaErrorStreamCaptureInvalidated;
    auto node = std::make_unique<GraphNode>();
    node->type = type;
    node->run = std::move(run);
    node->owner = s->capture;
    s->capture->nodes.push_back(std::move(node));
    ++s->captured[s];
    return cudaSuccess;
  }
  if (s->is_default) {
    if (const cudaError_t e = capture_forbids_legacy(s->device); e != cudaSuccess) return e;
  }
  if ((s->flags & cudaStreamNonBlocking) == 0) {
    for (auto& other : streams) {
      if (other.get() == s || other->device != s->device || other->queue.empty()) continue;
      if ((other->flags & cudaStreamNonBlocking) != 0 || other->is_default == s->is_default)
        continue;
      const cudaError_t e = drain(other.get());
      if (e != cudaSuccess) return e;
    }
  }
  s->queue.push_back({std::move(run), nullptr, 0});
  if (random_.below(2) == 0) {
    // A fault of asynchronous work is not this call's result: it shows in the next one.
    try {
      drain(s);
    } catch (const Fault& fault) {
      sticky = static_cast<cudaError_t>(fault.code());
    }
  }
  return cudaSuccess;
}

cudaError_t Runtime::execute(Work& work) {
  if (work.wait_for != nullptr && !work.wait_for->done) {
    for (auto& s : streams) {
      if (s.get() != work.wait_for->stream) continue;
      const cudaError_t e = drain(s.get());
      if (e != cudaSuccess) return e;
    }
  }
  return work.run ? work.run() : cudaSuccess;
}

cudaError_t Runtime::drain(StreamState* s) {
  while (!s->queue.empty()) {
    Work work = std::move(s->queue.front());
    s->queue.pop_front();
    const int before = device();
    set_device(s->device);
    cudaError_t e = cudaSuccess;
    s->before = std::exchange(s->unfinished, {});
    try {
      e = execute(work);
    } catch (...) {
      set_device(before);
      s->queue.clear();
      throw;
    }
    set_device(before);
    if (e != cudaSuccess) return e;
  }
  return cudaSuccess;
}

cudaError_t Runtime::drain_all(int only) {
  // In seeded order: only what is ordered by events is ordered.
  const size_t first = random_.below(static_cast<u32>(streams.size()));
  for (size_t i = 0; i < streams.size(); ++i) {
    StreamState* s = streams[(first + i) % streams.size()].get();
    if (only >= 0 && s->device != only) continue;
    const cudaError_t e = drain(s);
    if (e != cudaSuccess) return e;
  }
  return cudaSuccess;
}

cudaError_t Runtime::cluster_dims(const Kernel& kernel, const Program& program, dim3 grid,
                                  dim3& cluster) {
  constexpr unsigned kPortable = 8, kLargest = 16;
  const auto& required = program.cluster;
  if (required[0] != 0) {
    if (cluster.x != 0 &&
        (cluster.x != required[0] || cluster.y != required[1] || cluster.z != required[2]))
      return cudaErrorInvalidClusterSize;
    cluster = {required[0], required[1], required[2]};
  }
  if (cluster.x == 0) return cudaSuccess;
  const u64 size = u64{cluster.x} * cluster.y * cluster.z;
  if (size == 0 || size > (kernel.large_clusters ? kLargest : kPortable) ||
      (size > 1 && machine.device.major < 9))
    return cudaErrorInvalidClusterSize;
  if (grid.x % cluster.x != 0 || grid.y % cluster.y != 0 || grid.z % cluster.z != 0)
    return cudaErrorInvalidConfiguration;
  return cudaSuccess;
}

cudaError_t Runtime::launch(const void* function, dim3 grid, dim3 block, void** args, size_t shared,
                            cudaStream_t handle, LaunchOptions options) {
  dim3 cluster = options.cluster;
  Kernel* kernel = find_kernel(function);
  if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
  StreamState* s = stream(handle);
  if (s == nullptr || s->device != device()) return cudaErrorInvalidResourceHandle;
  if (!kernel->module->failure.empty()) {
    std::fprintf(stderr, "vgpu: kernel %s: %s\n", kernel->name.c_str(),
                 kernel->module->failure.c_str());
    return cudaErrorNoKernelImageForDevice;
  }
  std::shared_ptr<Program> linked;
  try {
    linked = program(*kernel, s->device);
  } catch (const PtxError& e) {
    std::fprintf(stderr, "vgpu: kernel %s: %s\n", kernel->name.c_str(), e.what());
    return cudaErrorInvalidPtx;
  }
  const auto refuse = [&](FindingKind kind, const std::string& message, cudaError_t error) {
    Finding f;
    f.kind = kind;
    f.kernel = kernel->name;
    f.message = message;
    machine.findings.add(std::move(f));
    return error;
  };
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  const u64 threads = u64{block.x} * block.y * block.z;
  if (threads > kMaxThreadsPerBlock || block.x > 1024 || block.y > 1024 || block.z > 64) {
    return refuse(FindingKind::kThreadLimit,
                  std::to_string(threads) + " threads per block, the device allows " +
                      std::to_string(kMaxThreadsPerBlock),
                  cudaErrorInvalidConfiguration);
  }
  const u64 max_threads =
      u64{linked->maxntid[0]} * std::max(1u, linked->maxntid[1]) * std::max(1u, linked->maxntid[2]);
  if (max_threads != 0 && threads > max_threads) {
    return refuse(FindingKind::kThreadLimit,
                  std::to_string(threads) +
                      " threads per block, the kernel's launch bounds allow " +
                      std::to_string(max_threads),
                  cudaErrorInvalidValue);
  }
  const u64 total_shared = linked->static_shared + shared;
  if (shared > static_cast<size_t>(std::max(kernel->max_dynamic_shared, 0)) ||
      total_shared > machine.device.shared_per_block_optin) {
    return refuse(FindingKind::kSharedLimit,
                  std::to_string(shared) + " bytes of dynamic and " +
                      std::to_string(linked->static_shared) +
                      " of static shared memory; the kernel's limit is " +
                      std::to_string(kernel->max_dynamic_shared) + " dynamic, the device's " +
                      std::to_string(machine.device.shared_per_block_optin) + " in all",
                  cudaErrorInvalidValue);
  }
  if (options.cooperative) {
    const u64 resident = u64{blocks_per_sm(machine.device, static_cast<u32>(threads),
                                           linked->registers, static_cast<u32>(total_shared))} *
                         static_cast<u64>(machine.device.sms);
    if (u64{grid.x} * grid.y * grid.z > resident) return cudaErrorCooperativeLaunchTooLarge;
  }
  if (const cudaError_t e = cluster_dims(*kernel, *linked, grid, cluster); e != cudaSuccess)
    return e;
  constexpr u64 kClusterThreads = u64{15} * 1024;  // that the race check can tell apart
  if (threads * std::max(1u, cluster.x * cluster.y * cluster.z) > kClusterThreads) {
    std::fprintf(stderr, "vgpu: clusters of more than %llu threads are not supported\n",
                 static_cast<unsigned long long>(kClusterThreads));
    return cudaErrorNotSupported;
  }
  std::vector<u8> params(linked->param_bytes);
  for (size_t i = 0; i < linked->params.size(); ++i)
    std::memcpy(params.data() + linked->params[i].offset, args[i], linked->params[i].bytes);
  LaunchConfig config;
  config.grid[0] = grid.x;
  config.grid[1] = grid.y;
  config.grid[2] = grid.z;
  config.block[0] = block.x;
  config.block[1] = block.y;
  config.block[2] = block.z;
  config.clustered = cluster.x != 0;
  if (config.clustered) {
    config.cluster[0] = cluster.x;
    config.cluster[1] = cluster.y;
    config.cluster[2] = cluster.z;
  }
  config.dynamic_shared = static_cast<u32>(shared);
  config.cooperative = options.cooperative;
  config.device = s->device;
  StreamState* const order = s->capture == nullptr ? s : nullptr;  // in a graph, all grids wait
  const auto run = [this, order, linked, config, overlaps = options.programmatic,
                    params = std::move(params)]() mutable {
    if (order != nullptr && overlaps) config.unfinished = order->before;
    Launch launch(machine, *linked, config, params);
    launch.run();
    if (order != nullptr) order->unfinished = launch.unfinished();
    return cudaSuccess;
  };
  return enqueue(s, cudaGraphNodeTypeKernel, run);
}

cudaError_t Runtime::raw_copy(void* dst, const void* src, size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  Allocation *to, *from;
  u8* target = host_view(dst, bytes, to);
  const u8* source = host_view(src, bytes, from);
  if (target == nullptr || source == nullptr) {
    const void* bad = target == nullptr ? dst : src;
    std::fprintf(stderr, "vgpu: copy of %s\n",
                 machine.memory.describe(reinterpret_cast<u64>(bad), bytes).c_str());
    return cudaErrorInvalidValue;
  }
  std::memmove(target, source, bytes);
  if (to == nullptr || to->defined == nullptr) return cudaSuccess;
  const u64 offset = reinterpret_cast<u64>(dst) - to->base;
  if (from == nullptr || from->defined == nullptr) {
    machine.memory.set_defined(*to, reinterpret_cast<u64>(dst), bytes);
    return cudaSuccess;
  }
  // What is undefined stays undefined.
  const u64 origin = reinterpret_cast<u64>(src) - from->base;
  if (origin % 64 == 0 && offset % 64 == 0) {
    for (u64 i = 0; i < bytes; i += 64) {
      const u64 n = std::min<u64>(64, bytes - i);
      put_bits(to->defined, offset + i, n, get_bits(from->defined, origin + i, n));
    }
    return cudaSuccess;
  }
  for (u64 i = 0; i < bytes; ++i)
    put_bits(to->defined, offset + i, 1, get_bits(from->defined, origin + i, 1));
  return cudaSuccess;
}

cudaError_t Runtime::copy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                          cudaStream_t handle, bool asynchronous) {
  StreamState* s = stream(handle);
  if (s == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (dst == nullptr || src == nullptr) return cudaErrorInvalidValue;
  const Allocation* to = machine.memory.find(reinterpret_cast<u64>(dst));
  const Allocation* from = machine.memory.find(reinterpret_cast<u64>(src));
  const auto on_device = [](const Allocation* a) {
    return a != nullptr &&
           (a->kind == Allocation::Kind::kDevice || a->kind == Allocation::Kind::kModule);
  };
  if ((kind == cudaMemcpyHostToDevice && (to == nullptr || on_device(from))) ||
      (kind == cudaMemcpyDeviceToHost && (from == nullptr || on_device(to))) ||
      (kind == cudaMemcpyDeviceToDevice && (to == nullptr || from == nullptr)))
    return cudaErrorInvalidValue;
  if (!asynchronous) {
    if (const cudaError_t e = capture_forbids_legacy(s->device); e != cudaSuccess) return e;
    if (const cudaError_t e = capture_forbids_unsafe(); e != cudaSuccess) return e;
    for (auto& other : streams) {
      if (other.get() != s && (other->flags & cudaStreamNonBlocking) != 0) continue;
      const cudaError_t e = drain(other.get());
      if (e != cudaSuccess) return e;
    }
    return raw_copy(dst, src, bytes);
  }
  // Pageable host memory: read at the call, written before it returns.
  if (from == nullptr && s->capture == nullptr) {
    auto staged = std::make_shared<std::vector<u8>>(static_cast<const u8*>(src),
                                                    static_cast<const u8*>(src) + bytes);
    return enqueue(s, cudaGraphNodeTypeMemcpy,
                   [this, dst, staged, bytes] { return raw_copy(dst, staged->data(), bytes); });
  }
  const cudaError_t e = enqueue(s, cudaGraphNodeTypeMemcpy,
                                [this, dst, src, bytes] { return raw_copy(dst, src, bytes); });
  if (e == cudaSuccess && to == nullptr && s->capture == nullptr) return drain(s);
  return e;
}

cudaError_t Runtime::copy_2d(void* dst, size_t dst_pitch, const void* src, size_t src_pitch,
                             size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t handle,
                             bool asynchronous) {
  if (width > dst_pitch || width > src_pitch) return cudaErrorInvalidPitchValue;
  for (size_t row = 0; row < height; ++row) {
    const cudaError_t e =
        copy(static_cast<u8*>(dst) + row * dst_pitch, static_cast<const u8*>(src) + row * src_pitch,
             width, kind, handle, asynchronous);
    if (e != cudaSuccess) return e;
  }
  return cudaSuccess;
}

cudaError_t Runtime::fill(void* dst, int value, size_t bytes, cudaStream_t handle,
                          bool asynchronous) {
  StreamState* s = stream(handle);
  if (s == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  Allocation* a;
  u8* target = host_view(dst, bytes, a);
  if (target == nullptr || a == nullptr) return cudaErrorInvalidValue;
  const cudaError_t e = enqueue(s, cudaGraphNodeTypeMemset, [this, dst, value, bytes] {
    Allocation* now;
    u8* at = host_view(dst, bytes, now);
    if (at == nullptr || now == nullptr) return cudaErrorInvalidValue;
    std::memset(at, value, bytes);
    machine.memory.set_defined(*now, reinterpret_cast<u64>(dst), bytes);
    return cudaSuccess;
  });
  if (e != cudaSuccess || asynchronous || s->capture != nullptr) return e;
  return drain(s);
}

}  // namespace vgpu
