// sm90_forward's tensor maps under a driver that encodes maps of device memory alone, as the
// virtual GPU's does when VGPU_MAP_ADDRESSES=own.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "qkv/qkv.h"

namespace qkv::test {
namespace {

class TensorMaps : public testing::Test {
 protected:
  static constexpr int64_t kRows = 5, kDim = 128;
  static constexpr size_t kBytes = kRows * kDim * 2;

  TensorMaps() {
    EXPECT_EQ(qkv_attention_desc_init(&desc_, sizeof desc_), QKV_SUCCESS);
    desc_.device = QKV_DEVICE_CUDA;
    for (qkv_tensor* tensor : tensors()) {
      *tensor = {nullptr, QKV_TYPE_F16, 0, {1, 1, kRows, kDim}, {0, 0, kDim, 1}};
      EXPECT_EQ(cudaMalloc(&tensor->data, kBytes), cudaSuccess);
      EXPECT_EQ(cudaMemset(tensor->data, 0, kBytes), cudaSuccess);
    }
  }
  ~TensorMaps() override {
    for (const qkv_tensor* tensor : tensors()) (void)cudaFree(tensor->data);
  }

  std::array<qkv_tensor*, 4> tensors() { return {&desc_.q, &desc_.k, &desc_.v, &desc_.o}; }
  // The plan in words.
  static std::string planned(const qkv_attention_desc& desc) {
    qkv_plan* plan = nullptr;
    if (qkv_plan_create(&desc, &plan) != QKV_SUCCESS) return qkv_last_error();
    std::array<char, 4096> text{};
    EXPECT_EQ(qkv_plan_print(plan, text.data(), text.size(), nullptr), QKV_SUCCESS);
    qkv_plan_destroy(plan);
    return text.data();
  }

  qkv_attention_desc desc_{};
};

TEST_F(TensorMaps, AreEncodedWithTheProblemsOwnAddresses) {
  const std::string plan = planned(desc_);
  EXPECT_EQ(plan.rfind("kernel      sm90_forward\n", 0), 0) << plan;
  EXPECT_EQ(qkv_attention(&desc_, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

// Shapes alone have no addresses: this driver refuses, and sm80_forward takes the problem.
TEST_F(TensorMaps, ThatTheDriverRefusesPassTheKernelOver) {
  qkv_attention_desc shapes = desc_;
  for (qkv_tensor* tensor : {&shapes.q, &shapes.k, &shapes.v, &shapes.o}) tensor->data = nullptr;
  const std::string plan = planned(shapes);
  EXPECT_EQ(plan.rfind("kernel      sm80_forward\n", 0), 0) << plan;
  EXPECT_NE(
      plan.find("\n  sm90_forward: loading sm90_forward's TMA maps: cudaErrorInvalidValue (invalid "
                "argument)\n"),
      std::string::npos)
      << plan;
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace qkv::test
