// A problem on a GPU. This file and speed_cuda.cpp alone know the CUDA runtime; without it they say
// so.
#include "device.h"
#include "errors.h"
#include "qkv/qkv.hpp"

#if QKV_HAS_CUDA

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace qkv::cli {
namespace {

void check_cuda(cudaError_t code, const char* what) {
  if (code != cudaSuccess) {
    throw Failure(
        fmt::format("{}: {} ({})", what, cudaGetErrorName(code), cudaGetErrorString(code)));
  }
}

struct FreeDevice {
  void operator()(void* pointer) const { (void)cudaFree(pointer); }
};
using DeviceMemory = std::unique_ptr<void, FreeDevice>;

DeviceMemory allocate(size_t bytes) {
  void* pointer = nullptr;
  check_cuda(cudaMalloc(&pointer, bytes), "allocating device memory");
  return DeviceMemory(pointer);
}

struct DestroyEvent {
  void operator()(cudaEvent_t event) const { (void)cudaEventDestroy(event); }
};
using Event = std::unique_ptr<CUevent_st, DestroyEvent>;

Event make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "creating an event");
  return Event(event);
}

// The buffers' copies on the device.
class Mirror {
 public:
  explicit Mirror(const std::vector<Buffer>& buffers) : buffers_(buffers) {
    for (const Buffer& buffer : buffers) {
      copies_.push_back(buffer.bytes.empty() ? nullptr : allocate(buffer.bytes.size()));
      if (buffer.bytes.empty()) continue;
      // Outputs too: elements that no kernel writes read back as the host had them.
      check_cuda(cudaMemcpy(copies_.back().get(), buffer.bytes.data(), buffer.bytes.size(),
                            cudaMemcpyHostToDevice),
                 "copying to the device");
    }
  }

  void redirect(qkv_tensor* tensor) const {
    if (tensor->data == nullptr) return;
    const auto* address = static_cast<const std::byte*>(tensor->data);
    for (size_t i = 0; i < buffers_.size(); ++i) {
      const auto& bytes = buffers_[i].bytes;
      if (address >= bytes.data() && address < bytes.data() + bytes.size()) {
        tensor->data = static_cast<std::byte*>(copies_[i].get()) + (address - bytes.data());
        return;
      }
    }
    tensor->data = nullptr;  // an empty tensor
  }

  void copy_back() const {
    for (size_t i = 0; i < buffers_.size(); ++i) {
      const auto& bytes = buffers_[i].bytes;
      if (!buffers_[i].output || bytes.empty()) continue;
      check_cuda(cudaMemcpy(bytes.data(), copies_[i].get(), bytes.size(), cudaMemcpyDeviceToHost),
                 "copying from the device");
    }
  }

 private:
  const std::vector<Buffer>& buffers_;
  std::vector<DeviceMemory> copies_;
};

}  // namespace

RunReport run_on_cuda(Job* job, int32_t index, const std::vector<Buffer>& buffers, int most_runs) {
  qkv_device_facts facts{};
  facts.struct_size = sizeof facts;
  check(qkv_device_query(index, &facts));
  const std::string kernel = job->check_support();

  check_cuda(cudaSetDevice(index), "choosing the device");
  const Mirror mirror(buffers);
  job->move([&](qkv_tensor* tensor) { mirror.redirect(tensor); });
  const size_t bytes = job->prepare();
  DeviceMemory workspace;
  if (bytes > 0) workspace = allocate(bytes);

  const Event begin = make_event(), end = make_event();
  RunReport report{kernel, fmt::format("cuda:{}, {}", index, facts.name), {}, bytes};
  while (wants_another_run(report, most_runs)) {
    check_cuda(cudaEventRecord(begin.get(), nullptr), "timing");
    job->run(workspace.get(), bytes);
    check_cuda(cudaEventRecord(end.get(), nullptr), "timing");
    check_cuda(cudaDeviceSynchronize(), "running the kernel");
    float time = 0;
    check_cuda(cudaEventElapsedTime(&time, begin.get(), end.get()), "timing");
    report.milliseconds.push_back(time);
  }
  mirror.copy_back();
  return report;
}

}  // namespace qkv::cli

#else

namespace qkv::cli {

RunReport run_on_cuda(Job* job, int32_t, const std::vector<Buffer>&, int) {
  // The library refuses in its own words.
  job->move([](qkv_tensor* tensor) { tensor->data = nullptr; });
  job->prepare();
  throw Error(QKV_UNSUPPORTED_BUILD, "this build of qkv has no CUDA");
}

}  // namespace qkv::cli

#endif
