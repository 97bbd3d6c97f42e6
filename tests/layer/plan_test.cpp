// Plans of layers, without a device: which steps they have, what they share of the workspace, what
// comes of a step that is declined, passed over or cannot be prepared.
#include "host/core/plan.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "host/core/disable.h"
#include "host/core/plan_cache.h"
#include "host/core/verbose.h"
#include "host/ops/layer/op.h"
#include "tests/support/fake_cuda.h"

namespace qkv::test {
namespace {

using host::layer::Problem;

constexpr int64_t kB = 2, kS = 64, kE = 128, kH = 4, kD = 128, kInner = kH * kD;

// Self-attention in fp16, packed, with an output product; a byte stands for every tensor.
class LayerPlanTest : public testing::Test {
 protected:
  LayerPlanTest() {
    EXPECT_EQ(qkv_layer_desc_init(&d_, sizeof d_), QKV_SUCCESS);
    cuda_.map_everything(0);
    host::clear_plan_cache();
    d_.heads_q = kH;
    d_.x_q = rows(kB, kS, kE);
    d_.w_qkv = rows(1, 3 * kInner, kE);
    d_.w_o = rows(1, kE, kInner);
    d_.y = rows(kB, kS, kE);
    d_.workspace = next(int64_t{1} << 30);
    d_.workspace_size = size_t{1} << 30;
  }
  ~LayerPlanTest() override {
    host::set_disabled_for_test("");
    host::clear_plan_cache();
  }

  // Addresses that nobody uses: memory of the fake device.
  void* next(int64_t bytes) {
    const uintptr_t at = address_;
    address_ += static_cast<uintptr_t>((bytes + 511) / 256 * 256);
    return reinterpret_cast<void*>(at);
  }
  qkv_tensor rows(int64_t batch, int64_t s, int64_t width, qkv_type type = QKV_TYPE_F16) {
    return {next(batch * s * width * 2), type, 0, {batch, 1, s, width}, {s * width, 0, width, 1}};
  }
  void unpack() {
    d_.w_qkv = {};
    d_.w_q = rows(1, kInner, kE);
    d_.w_k = rows(1, kInner, kE);
    d_.w_v = rows(1, kInner, kE);
  }

  std::vector<std::string> launched() const {
    std::vector<std::string> names;
    for (const FakeCuda::Launch& launch : cuda_.launches()) names.push_back(launch.kernel);
    return names;
  }
  Problem problem() const {
    Problem out;
    const host::Status status =
        host::layer::validate(&d_, host::Need::kShapes, host::cuda_runtime(), &out);
    EXPECT_TRUE(status.ok()) << status.reason();
    return out;
  }
  size_t workspace() const {
    qkv_query_result answer{};
    answer.struct_size = sizeof answer;
    EXPECT_EQ(qkv_layer_query(&d_, &answer), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(answer.supported, 1) << answer.reasons;
    return answer.workspace_size;
  }
  std::string reasons() const {
    qkv_query_result answer{};
    answer.struct_size = sizeof answer;
    EXPECT_EQ(qkv_layer_query(&d_, &answer), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(answer.supported, 0);
    return answer.reasons;
  }

  FakeCuda cuda_{{fake_device(90), fake_device(80), fake_device(75)}};
  uintptr_t address_ = uintptr_t{1} << 40;
  qkv_layer_desc d_;
};

using Names = std::vector<std::string>;

TEST_F(LayerPlanTest, LaunchesItsStepsInOrder) {
  ASSERT_EQ(qkv_layer(&d_, reinterpret_cast<void*>(7)), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(launched(), (Names{"cublaslt", "sm90_forward", "cublaslt"}));
  for (const FakeCuda::Launch& launch : cuda_.launches()) {
    EXPECT_EQ(launch.stream, reinterpret_cast<void*>(7));
    // All have the workspace behind Q, K, V and O, which are whole multiples of 256 bytes here.
    EXPECT_EQ(launch.workspace, static_cast<std::byte*>(d_.workspace) + kB * kS * 4 * kInner * 2);
  }
  EXPECT_EQ(cuda_.allocations, 0);

  unpack();
  d_.workspace = nullptr;
  d_.workspace_size = 0;
  d_.flags = QKV_FLAG_ALLOW_ALLOCATION;
  ASSERT_EQ(qkv_layer(&d_, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(launched().size(), 3u + 5u);
  EXPECT_EQ(cuda_.allocations, 1);
  EXPECT_EQ(cuda_.releases, 1);
}

TEST_F(LayerPlanTest, StepsWithoutWorkAreNotLaunched) {
  unpack();
  d_.x_kv = rows(kB, 0, kE);
  ASSERT_EQ(qkv_layer(&d_, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(launched().size(), 3u) << "q, attention over no keys, y";
  d_.w_o = {};
  d_.y = {next(1 << 20), QKV_TYPE_F16, 0, {kB, kH, kS, kD}, {kS * kInner, kD, kInner, 1}};
  ASSERT_EQ(qkv_layer(&d_, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(launched().size(), 3u + 2u);
  d_.x_q.shape[0] = d_.x_kv.shape[0] = d_.y.shape[0] = 0;
  ASSERT_EQ(qkv_layer(&d_, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(launched().size(), 3u + 2u);
}

// What goes from step to step, and the most that a step asks for.
TEST_F(LayerPlanTest, WorkspaceIsThatOfTheBuffersAndOneStep) {
  const size_t buffers = static_cast<size_t>(kB * kS * 4 * kInner * 2);
  EXPECT_EQ(workspace(), buffers + (size_t{32} << 20)) << "a product's, on Hopper";
  d_.device = QKV_DEVICE_CUDA;
  d_.device_index = 1;
  for (qkv_tensor* tensor : {&d_.x_q, &d_.w_qkv, &d_.w_o, &d_.y}) tensor->data = nullptr;
  EXPECT_EQ(workspace(), buffers + (size_t{4} << 20));
  // Without O, and with odd sizes: each buffer begins at a multiple of 256 bytes, and the last one
  // ends where it ends where no step asks for more.
  unpack();
  d_.heads_q = 1;
  d_.w_q = rows(1, 3, 5), d_.w_k = rows(1, 3, 5), d_.w_v = rows(1, 7, 5);
  d_.x_q = rows(1, 9, 5);
  d_.w_o = {};
  d_.y = rows(1, 9, 7);
  for (qkv_tensor* tensor : {&d_.x_q, &d_.w_q, &d_.w_k, &d_.w_v, &d_.y}) tensor->data = nullptr;
  EXPECT_EQ(workspace(), 256u + 256u + 9u * 7u * 2u);
}

TEST_F(LayerPlanTest, PrintsItsSteps) {
  host::Plan plan;
  const Problem p = problem();
  ASSERT_TRUE(host::make_plan(host::layer::kOp, p, cuda_.devices[0], &plan).ok());
  const std::string text = host::plan_text(host::layer::kOp, plan, p, cuda_.devices[0]);
  EXPECT_EQ(text.substr(0, text.find("step attention")),
            "kernel      layer\n"
            "device      NVIDIA H100 80GB HBM3\n"
            "problem     self-attention from width 128, packed weights, to width 128\n"
            "step qkv\n"
            "  kernel      cublaslt\n"
            "  problem     batch 2, rows 64, in 128, out 1536, f16\n"
            "  tensors     weight [out, in], heads 12 x 128\n"
            "  products    1 of 128 x 1536 x 128, weight transposed\n"
            "  workspace   33554432 bytes\n");
  EXPECT_NE(text.find("step y\n  kernel      cublaslt\n"), std::string::npos) << text;
  EXPECT_EQ(host::layer::repro(p),
            "layer:cuda:f16:d128:full:b2:hq4:hkv4:sq64:skv64:eq128:ey128:packed");
}

TEST_F(LayerPlanTest, SaysWhichStepIsDeclined) {
  d_.x_q.stride[2] = kE - 1;
  EXPECT_NE(reasons().find("layer: step qkv: no kernel runs this problem; cublaslt: rows of x are "
                           "127 elements apart and have 128"),
            std::string::npos)
      << reasons();
  d_.x_q.stride[2] = kE;
  host::set_disabled_for_test("sm90_forward,sm80_forward,simt_forward,simt_general");
  EXPECT_NE(reasons().find("layer: step attention: no kernel runs this problem; sm90_forward: "
                           "disabled by QKV_DISABLE; sm80_forward: "),
            std::string::npos)
      << reasons();
  host::set_disabled_for_test("layer");
  EXPECT_NE(reasons().find("layer: disabled by QKV_DISABLE"), std::string::npos) << reasons();
}

// The plan goes on with the next kernel, whose workspace counts.
TEST_F(LayerPlanTest, AStepsKernelMayBePassedOver) {
  cuda_.load_results = {host::Status(), host::Status(QKV_UNSUPPORTED_KERNEL, "its words")};
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_layer_plan_create(&d_, &plan), QKV_SUCCESS) << qkv_last_error();
  std::vector<char> buffer(1 << 14);
  ASSERT_EQ(qkv_plan_print(plan, buffer.data(), buffer.size(), nullptr), QKV_SUCCESS);
  const std::string text = buffer.data();
  EXPECT_NE(text.find("step attention\n  kernel      sm80_forward\n"), std::string::npos) << text;
  EXPECT_NE(text.find("    sm90_forward: its words\n"), std::string::npos) << text;
  ASSERT_EQ(qkv_layer_plan_run(plan, &d_, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(launched(), (Names{"cublaslt", "sm80_forward", "cublaslt"}));
  qkv_plan_destroy(plan);
}

// Where no kernel is left for a step: for want of a library, and by a fault of CUDA's.
TEST_F(LayerPlanTest, AStepThatCannotBePrepared) {
  qkv_plan* plan = nullptr;
  for (const auto& [said, want] : {std::pair{QKV_UNSUPPORTED, QKV_UNSUPPORTED_KERNEL},
                                   std::pair{QKV_UNSUPPORTED_KERNEL, QKV_DEVICE_ERROR_CALL},
                                   std::pair{QKV_DEVICE_ERROR_CALL, QKV_DEVICE_ERROR_CALL}}) {
    cuda_.load_results.emplace_back(said, "its words");
    EXPECT_EQ(qkv_layer_plan_create(&d_, &plan), want) << qkv_last_error();
    EXPECT_NE(std::string(qkv_last_error()).find("its words"), std::string::npos)
        << qkv_last_error();
    EXPECT_NE(std::string(qkv_last_error()).find("step qkv: "), std::string::npos)
        << qkv_last_error();
    EXPECT_EQ(plan, nullptr);
  }
  EXPECT_EQ(qkv_layer_plan_create(&d_, &plan), QKV_SUCCESS) << "the next call tries again";
  qkv_plan_destroy(plan);
}

// Whatever a step's plan depends on is in the layer's key.
TEST_F(LayerPlanTest, PlansRunTheirOwnProblemAlone) {
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_layer_plan_create(&d_, &plan), QKV_SUCCESS) << qkv_last_error();
  const qkv_layer_desc original = d_;
  qkv_attention_desc attention;
  ASSERT_EQ(qkv_attention_desc_init(&attention, sizeof attention), QKV_SUCCESS);
  const auto refused = [&](const char* what) {
    EXPECT_EQ(qkv_layer_plan_run(plan, &d_, nullptr), QKV_INVALID_PLAN) << what;
    d_ = original;
  };
  EXPECT_EQ(qkv_layer_plan_run(plan, &d_, nullptr), QKV_SUCCESS) << qkv_last_error();
  d_.attention = &attention;
  EXPECT_EQ(qkv_layer_plan_run(plan, &d_, nullptr), QKV_SUCCESS) << "the defaults";
  attention.causal = 1;
  refused("causal");
  d_.bias_qkv = rows(1, 1, 3 * kInner);
  refused("a bias");
  d_.bias_o = rows(1, 1, kE);
  refused("another bias");
  d_.w_qkv.stride[2] = 1, d_.w_qkv.stride[3] = 3 * kInner;
  refused("[in, out] memory");
  d_.x_q.stride[0] += 8;
  refused("a gap in x");
  d_.y.stride[2] += 8, d_.y.stride[0] += 8 * kS;
  refused("a gap in y");
  d_.x_q.data = static_cast<std::byte*>(d_.x_q.data) + 2;
  refused("less alignment of x");
  d_.y.data = static_cast<std::byte*>(d_.y.data) + 2;
  refused("less alignment of y");
  d_.heads_kv = 1;
  d_.w_qkv = rows(1, 6 * kD, kE);
  refused("grouped heads");
  qkv_plan_destroy(plan);
}

TEST_F(LayerPlanTest, SaysWhatTheStepsRunOn) {
  static std::vector<std::string> lines;
  lines.clear();
  host::set_verbose_for_test("dispatch", [](const std::string& line) { lines.push_back(line); });
  EXPECT_EQ(qkv_layer(&d_, nullptr), QKV_SUCCESS) << qkv_last_error();
  host::set_verbose_for_test("none", nullptr);
  std::string all;
  for (const std::string& line : lines) all += line;
  for (const char* kernel :
       {"cublaslt takes project:", "sm90_forward takes fwd:", "layer takes layer:"})
    EXPECT_NE(all.find(kernel), std::string::npos) << all;
}

}  // namespace
}  // namespace qkv::test
