// What the tests of gpu_runtime_test share. They ask how calls of qkv live with the CUDA runtime
// around them (the risks T14 to T18), on real devices and on the virtual GPU, which besides counts
// runtime calls and makes any one of them fail.
#pragma once

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

#include "qkv/qkv.h"

namespace qkv::test {

// --- the virtual GPU's own entry points, null on a real runtime

using CallsOf = unsigned long long (*)(const char* name);
using FailCall = int (*)(unsigned long long n);
using FailWith = void (*)(int error);

template <class F>
F probe(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
}
inline bool on_virtual_gpu() { return probe<CallsOf>("__cudaVgpuCalls") != nullptr; }

// Throws where a call of CUDA fails.
void check(cudaError_t error, const char* what);

#define CUDA(call) check(call, #call)

// fp32 numbers of a normal distribution.
std::vector<std::byte> random_bytes(int64_t count, uint64_t seed, float deviation = 1);

// --- problems in device memory

struct Kind {
  qkv_type type;
  int64_t heads_q, heads_kv, s_q, s_kv, d;
  bool causal, lengths;
};
inline constexpr int64_t kBatch = 2;
inline constexpr Kind kKinds[] = {
    {QKV_TYPE_F32, 2, 1, 5, 37, 16, false, false}, {QKV_TYPE_F16, 2, 2, 17, 17, 32, true, false},
    {QKV_TYPE_BF16, 4, 2, 9, 40, 64, true, true},  {QKV_TYPE_F16, 1, 1, 1, 65, 128, false, true},
    {QKV_TYPE_F32, 1, 1, 33, 12, 24, true, false}, {QKV_TYPE_BF16, 2, 1, 3, 20, 80, false, false},
};
inline constexpr int kKindCount = static_cast<int>(std::size(kKinds));

class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) { CUDA(cudaMalloc(&data_, bytes)); }
  ~Buffer() { (void)cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  void put(const std::vector<std::byte>& image, cudaStream_t stream) const {
    CUDA(cudaMemcpyAsync(data_, image.data(), image.size(), cudaMemcpyHostToDevice, stream));
  }
  void get(std::byte* image, cudaStream_t stream) const {
    CUDA(cudaMemcpyAsync(image, data_, bytes_, cudaMemcpyDeviceToHost, stream));
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

struct RandomInputs {
  std::vector<std::byte> q, k, v, lengths;

  RandomInputs(const Kind& kind, uint64_t seed);
};

// The memory of one call on the device that is current when it is made.
class Problem {
 public:
  Problem(const Kind& kind, uint64_t seed);

  qkv_attention_desc desc(qkv_device device = QKV_DEVICE_AUTO) const;
  // `inputs` must outlive the work of the stream. Outputs are poisoned.
  void upload(const RandomInputs& inputs, cudaStream_t stream) const;
  // O and LSE when the stream has come so far.
  std::vector<std::byte> result(cudaStream_t stream) const;
  const Kind& kind() const { return kind_; }
  const RandomInputs& inputs() const { return inputs_; }

 private:
  Kind kind_;
  RandomInputs inputs_;
  Buffer q_, k_, v_, lengths_, o_, lse_;
};

// The largest difference to the CPU backend's result: what bits are compared to is right.
double distance_to_cpu(const Kind& kind, const RandomInputs& given,
                       const std::vector<std::byte>& bits);
inline constexpr double kCloseEnough = 64;  // units; a wrong key or row is off by thousands

// The result of each kind with its number as the seed.
std::vector<std::vector<std::byte>> serial_results();

// Streams that do not wait for the default stream.
class Streams {
 public:
  explicit Streams(int count) : streams_(static_cast<size_t>(count)) {
    for (cudaStream_t& s : streams_) CUDA(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  }
  ~Streams() {
    for (cudaStream_t s : streams_) (void)cudaStreamDestroy(s);
  }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;
  cudaStream_t operator[](int i) const { return streams_[static_cast<size_t>(i)]; }

 private:
  std::vector<cudaStream_t> streams_;
};

class Gpu : public testing::Test {
 protected:
  void SetUp() override;
  int devices() const { return devices_; }

 private:
  int devices_ = 0;
};

}  // namespace qkv::test
