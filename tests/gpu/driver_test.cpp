// A driver that is too old for the runtime that qkv carries: `vgpu-run --driver 12.2`.
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "qkv/qkv.h"

namespace qkv::test {
namespace {

constexpr const char* kWords =
    "this process has no CUDA device: the NVIDIA driver here is for CUDA 12.2 and older, this "
    "build "
    "of qkv is of CUDA 13.0; update the driver to 580 or newer, or build qkv with "
    "QKV_CUDA_FLAVOUR=12, which runs on drivers from 525 on";

struct Problem {
  Problem() {
    EXPECT_EQ(qkv_attention_desc_init(&desc, sizeof desc), QKV_SUCCESS);
    desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
    for (size_t n = 0; n < memory.size(); ++n) {
      memory[n].assign(64, 1.f);
      qkv_tensor& tensor = *std::array{&desc.q, &desc.k, &desc.v, &desc.o}[n];
      tensor = {memory[n].data(), QKV_TYPE_F32, 0, {1, 1, 8, 8}, {64, 64, 8, 1}};
    }
  }
  std::array<std::vector<float>, 4> memory;
  qkv_attention_desc desc;
};

TEST(OldDriver, IsToldFromAMissingDevice) {
  EXPECT_EQ(qkv_device_count(), 0);
  qkv_device_facts facts{};
  facts.struct_size = sizeof facts;
  EXPECT_EQ(qkv_device_query(0, &facts), QKV_DEVICE_ERROR_NONE);
  EXPECT_EQ(qkv_last_error(), std::string("index is 0, but ") + kWords);

  Problem p;
  p.desc.device = QKV_DEVICE_CUDA;
  EXPECT_EQ(qkv_attention(&p.desc, nullptr), QKV_DEVICE_ERROR_NONE);
  EXPECT_EQ(qkv_last_error(), std::string("device is cuda, but ") + kWords);
  qkv_query_result answer{};
  answer.struct_size = sizeof answer;
  EXPECT_EQ(qkv_query(&p.desc, &answer), QKV_SUCCESS);
  EXPECT_EQ(answer.supported, 0);
  EXPECT_EQ(answer.reasons, std::string("device is cuda, but ") + kWords);
}

TEST(OldDriver, LeavesTheCpu) {
  for (const qkv_device device : {QKV_DEVICE_AUTO, QKV_DEVICE_CPU}) {
    Problem p;
    p.desc.device = device;
    p.memory[3].assign(64, 7.f);
    EXPECT_EQ(qkv_attention(&p.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(p.memory[3], std::vector<float>(64, 1.f)) << "the mean of equal values";
  }
}

}  // namespace
}  // namespace qkv::test
