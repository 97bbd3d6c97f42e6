// CUDA memory and timing for the benchmark. Errors are thrown as std::runtime_error.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>

namespace qkv::bench {

void cuda_check(cudaError_t error, const char* what);

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// A copy of host memory; null for 0 bytes.
DeviceBuffer upload(const void* from, size_t bytes);

// A stream with a stopwatch: seconds of device time of what `queue` puts on the stream, with the L2
// cache flushed before it starts.
class DeviceTimer {
 public:
  explicit DeviceTimer(size_t l2_bytes);
  ~DeviceTimer();
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;

  cudaStream_t stream() const { return stream_; }
  double seconds(const std::function<void(cudaStream_t)>& queue);

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
  DeviceBuffer flush_;  // twice the L2 cache
};

}  // namespace qkv::bench
