// Tensors in the memory of a CUDA device: qkv's kernels compute. The same program runs on a real
// device and on the virtual GPU. Builds with CUDA alone have this file.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "host/core/status.h"
#include "host/verify/place.h"

namespace qkv::verify {
namespace {

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
  }
}

class CudaPlace final : public Place {
 public:
  explicit CudaPlace(int32_t index) : index_(index) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    if (error != cudaSuccess) {
      missing_ = std::string("no CUDA device: ") + cudaGetErrorString(error);
    } else if (count == 0) {
      missing_ = "no CUDA device";
    } else if (qkv_device_count() != count) {
      missing_ = "libqkv was built without CUDA";
    } else if (index >= count) {
      missing_ = host::text("no CUDA device ", index, ", there are ", count);
    }
  }

  std::string missing() const override { return missing_; }
  qkv_device device() const override { return QKV_DEVICE_CUDA; }
  int32_t index() const override { return index_; }

  void* allocate(size_t bytes) override {
    void* memory = nullptr;
    use_device();
    check(cudaMalloc(&memory, std::max<size_t>(bytes, 1)), "cudaMalloc");
    return memory;
  }
  void* allocate_exact(size_t bytes) override { return allocate(bytes); }
  // From any thread: who judges a result gives its memory back.
  void release(void* memory) override {
    (void)cudaSetDevice(index_);
    (void)cudaFree(memory);
  }

  void upload(void* to, const void* from, size_t bytes) override {
    use_device();
    if (bytes > 0) check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "upload");
  }
  void download(void* to, const void* from, size_t bytes) override {
    use_device();
    check(cudaDeviceSynchronize(), "kernel");
    if (bytes > 0) check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "download");
  }

  void set_threads(int) override {}

 private:
  void use_device() const { check(cudaSetDevice(index_), "choosing the device"); }

  int32_t index_;
  std::string missing_;
};

}  // namespace

Place& cuda_place(int32_t index) {
  static CudaPlace instance(index);
  return instance;
}

}  // namespace qkv::verify
