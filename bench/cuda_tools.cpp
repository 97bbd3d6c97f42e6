#include "bench/cuda_tools.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace qkv::bench {

void cuda_check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // so that the next problem starts clean
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

DeviceBuffer::DeviceBuffer(size_t bytes) : bytes_(bytes) {
  cuda_check(cudaMalloc(&data_, std::max<size_t>(bytes, 1)), "cudaMalloc");
}

DeviceBuffer::~DeviceBuffer() { (void)cudaFree(data_); }

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

DeviceBuffer upload(const void* from, size_t bytes) {
  if (bytes == 0) return {};
  DeviceBuffer to(bytes);
  cuda_check(cudaMemcpy(to.data(), from, bytes, cudaMemcpyHostToDevice), "upload");
  return to;
}

DeviceTimer::DeviceTimer(size_t l2_bytes) : flush_(2 * l2_bytes) {
  cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  cuda_check(cudaEventCreate(&start_), "cudaEventCreate");
  cuda_check(cudaEventCreate(&stop_), "cudaEventCreate");
}

DeviceTimer::~DeviceTimer() {
  (void)cudaEventDestroy(start_);
  (void)cudaEventDestroy(stop_);
  (void)cudaStreamDestroy(stream_);
}

double DeviceTimer::seconds(const std::function<void(cudaStream_t)>& queue) {
  // The host queues everything while the flush still runs, so launch costs stay hidden.
  cuda_check(cudaMemsetAsync(flush_.data(), 0x5a, flush_.bytes(), stream_), "L2 flush");
  cuda_check(cudaEventRecord(start_, stream_), "cudaEventRecord");
  queue(stream_);
  cuda_check(cudaEventRecord(stop_, stream_), "cudaEventRecord");
  cuda_check(cudaEventSynchronize(stop_), "kernel");
  float milliseconds = 0;
  cuda_check(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
  return milliseconds * 1e-3;
}

}  // namespace qkv::bench
