// Tensors in the memory of CUDA device 0: qkv's kernels compute. The same program runs on a real
// device and on the virtual GPU.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <stdexcept>

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
  CudaPlace() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    if (error != cudaSuccess) {
      missing_ = std::string("no CUDA device: ") + cudaGetErrorString(error);
    } else if (count == 0) {
      missing_ = "no CUDA device";
    } else if (qkv_device_count() != count) {
      missing_ = "libqkv was built without CUDA";
    }
  }

  std::string missing() const override { return missing_; }
  qkv_device device() const override { return QKV_DEVICE_CUDA; }

  void* allocate(size_t bytes) override {
    void* memory = nullptr;
    check(cudaMalloc(&memory, std::max<size_t>(bytes, 1)), "cudaMalloc");
    return memory;
  }
  void* allocate_exact(size_t bytes) override { return allocate(bytes); }
  void release(void* memory) override { (void)cudaFree(memory); }

  void upload(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "upload");
  }
  void download(void* to, const void* from, size_t bytes) override {
    check(cudaDeviceSynchronize(), "kernel");
    if (bytes > 0) check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "download");
  }

  void set_threads(int) override {}

 private:
  std::string missing_;
};

}  // namespace

Place& place() {
  static CudaPlace instance;
  return instance;
}

}  // namespace qkv::verify
