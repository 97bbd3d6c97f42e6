// T15: the tensors' device is not the current one.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/gpu/runtime.h"

namespace qkv::test {
namespace {

using T15_Devices = Gpu;

TEST_F(T15_Devices, TheTensorsDeviceComputesAndTheCurrentOneStays) {
  if (devices() < 2) GTEST_SKIP() << "needs several devices; runs on the virtual GPU (vgpu_T15_*)";
  std::vector<std::vector<std::byte>> results;
  for (int device = 0; device < devices(); ++device) {
    CUDA(cudaSetDevice(device));
    const Problem p(kKinds[2], 3);
    const Streams streams(1);
    for (int current = 0; current < devices(); ++current) {
      for (const bool own_stream : {true, false}) {
        CUDA(cudaSetDevice(device));
        p.upload(p.inputs(), nullptr);
        CUDA(cudaStreamSynchronize(nullptr));
        CUDA(cudaSetDevice(current));
        qkv_attention_desc d = p.desc(own_stream ? QKV_DEVICE_AUTO : QKV_DEVICE_CUDA);
        d.device_index = own_stream ? 0 : device;
        ASSERT_EQ(qkv_attention(&d, own_stream ? streams[0] : nullptr), QKV_SUCCESS)
            << qkv_last_error();
        int after = -1;
        CUDA(cudaGetDevice(&after));
        ASSERT_EQ(after, current) << "tensors on device " << device;
        CUDA(cudaSetDevice(device));
        results.push_back(p.result(own_stream ? streams[0] : nullptr));
        ASSERT_EQ(results.back(), results.front()) << "device " << device << " from " << current;
      }
    }
    CUDA(cudaSetDevice(device));
    EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), results.front()), kCloseEnough);
  }
  CUDA(cudaSetDevice(0));
}

TEST_F(T15_Devices, ThreadsOfDifferentDevicesDoNotMeet) {
  if (devices() < 2) GTEST_SKIP() << "needs several devices; runs on the virtual GPU (vgpu_T15_*)";
  const auto want = serial_results();
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2 * devices(); ++t) {
    threads.emplace_back([&, t] {
      CUDA(cudaSetDevice(t % devices()));
      const Streams streams(1);
      for (int k = 0; k < kKindCount; ++k) {
        const Problem p(kKinds[k], static_cast<uint64_t>(k));
        const qkv_attention_desc d = p.desc();
        if (qkv_attention(&d, streams[0]) != QKV_SUCCESS) ++wrong;
        if (p.result(streams[0]) != want[static_cast<size_t>(k)]) ++wrong;
        int after = -1;
        CUDA(cudaGetDevice(&after));
        if (after != t % devices()) ++wrong;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(T15_Devices, TensorsOnTwoDevicesAreRefused) {
  if (devices() < 2) GTEST_SKIP() << "needs several devices; runs on the virtual GPU (vgpu_T15_*)";
  const Problem here(kKinds[0], 1);
  CUDA(cudaSetDevice(1));
  const Problem there(kKinds[0], 1);
  CUDA(cudaSetDevice(0));
  const qkv_attention_desc other = there.desc();
  qkv_attention_desc d = here.desc();
  d.k = other.k;
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_INVALID_DEVICE);
  d = here.desc(QKV_DEVICE_CUDA);
  d.device_index = 1;
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_INVALID_DEVICE);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

// No call of qkv allocates on any device: what is free stays free.
TEST_F(T15_Devices, NothingIsAllocated) {
  const auto free_bytes = [&] {
    std::vector<size_t> free(static_cast<size_t>(devices()));
    for (int device = 0; device < devices(); ++device) {
      size_t total = 0;
      CUDA(cudaSetDevice(device));
      CUDA(cudaMemGetInfo(&free[static_cast<size_t>(device)], &total));
    }
    CUDA(cudaSetDevice(0));
    return free;
  };
  CUDA(cudaSetDevice(devices() - 1));
  const Problem p(kKinds[3], 3);
  CUDA(cudaSetDevice(0));
  qkv_attention_desc d = p.desc();
  d.flags = QKV_FLAG_ALLOW_ALLOCATION;
  ASSERT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();  // loads the kernel
  CUDA(cudaSetDevice(devices() - 1));
  CUDA(cudaDeviceSynchronize());
  const auto before = free_bytes();
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  }
  EXPECT_EQ(free_bytes(), before);
}

}  // namespace
}  // namespace qkv::test
