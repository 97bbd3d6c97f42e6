// T14, T15 and T18 for projections, whose kernel is a library's: streams, devices, CUDA graphs.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/gpu/runtime.h"

namespace qkv::test {
namespace {

constexpr int64_t kRows = 24, kIn = 160, kHeads = 3, kDim = 40, kOut = kHeads * kDim;

// The memory of one projection, in fp32, on the device that is current when it is made; y in the
// layout that attention has for heads before rows.
class Projection {
 public:
  Projection()
      : x_(kBatch * kRows * kIn * 4),
        weight_(kOut * kIn * 4),
        bias_(kOut * 4),
        y_(kBatch * kRows * kOut * 4) {}

  // Everything of one seed; what is returned must outlive the work of the stream.
  std::vector<std::vector<std::byte>> upload(uint64_t seed, cudaStream_t stream) const {
    std::vector<std::vector<std::byte>> images{random_bytes(kBatch * kRows * kIn, seed),
                                               random_bytes(kOut * kIn, seed + 1),
                                               random_bytes(kOut, seed + 2)};
    x_.put(images[0], stream), weight_.put(images[1], stream), bias_.put(images[2], stream);
    CUDA(cudaMemsetAsync(y_.data(), 0xff, y_.bytes(), stream));
    return images;
  }
  std::vector<std::byte> result(cudaStream_t stream) const {
    std::vector<std::byte> out(y_.bytes());
    y_.get(out.data(), stream);
    CUDA(cudaStreamSynchronize(stream));
    return out;
  }

  qkv_project_desc desc() const { return desc(x_.data(), weight_.data(), bias_.data(), y_.data()); }

  // What the CPU makes of the seed's tensors.
  static std::vector<float> on_cpu(uint64_t seed) {
    std::vector<std::byte> x = random_bytes(kBatch * kRows * kIn, seed),
                           weight = random_bytes(kOut * kIn, seed + 1),
                           bias = random_bytes(kOut, seed + 2);
    std::vector<float> y(static_cast<size_t>(kBatch * kRows * kOut));
    qkv_project_desc call = desc(x.data(), weight.data(), bias.data(), y.data());
    call.device = QKV_DEVICE_CPU;
    EXPECT_EQ(qkv_project(&call, nullptr), QKV_SUCCESS) << qkv_last_error();
    return y;
  }

 private:
  static qkv_project_desc desc(void* x, void* weight, void* bias, void* y) {
    qkv_project_desc d;
    EXPECT_EQ(qkv_project_desc_init(&d, sizeof d), QKV_SUCCESS);
    d.flags = QKV_FLAG_ALLOW_ALLOCATION;
    d.x = {x, QKV_TYPE_F32, 0, {kBatch, 1, kRows, kIn}, {kRows * kIn, 0, kIn, 1}};
    d.weight = {weight, QKV_TYPE_F32, 0, {1, 1, kOut, kIn}, {0, 0, kIn, 1}};
    d.bias = {bias, QKV_TYPE_F32, 0, {1, 1, 1, kOut}, {0, 0, 0, 1}};
    d.y = {
        y, QKV_TYPE_F32, 0, {kBatch, kHeads, kRows, kDim}, {kRows * kOut, kRows * kDim, kDim, 1}};
    return d;
  }

  Buffer x_, weight_, bias_, y_;
};

// Sums of 161 terms: within 6 sqrt(161) 2^-24 of the sum of their sizes on either side.
void expect_close(const std::vector<std::byte>& bits, const std::vector<float>& want) {
  const auto* got = reinterpret_cast<const float*>(bits.data());
  for (size_t n = 0; n < want.size(); ++n) ASSERT_NEAR(got[n], want[n], 1e-3) << n;
}

using T14_Projections = Gpu;
using T15_Projections = Gpu;
using T17_Projections = Gpu;
using T18_Projections = Gpu;

TEST_F(T14_Projections, StreamsKeepTheirOrder) {
  const Streams streams(4);
  std::vector<std::vector<float>> want;
  for (uint64_t seed = 0; seed < 4; ++seed) want.push_back(Projection::on_cpu(seed));
  const Projection memory[4];
  std::vector<std::vector<std::vector<std::byte>>> kept;
  for (int turn = 0; turn < 3; ++turn)
    for (int n = 0; n < 4; ++n) {
      kept.push_back(memory[n].upload(static_cast<uint64_t>((n + turn) % 4), streams[n]));
      const qkv_project_desc d = memory[n].desc();
      ASSERT_EQ(qkv_project(&d, streams[n]), QKV_SUCCESS) << qkv_last_error();
    }
  for (int n = 0; n < 4; ++n)
    expect_close(memory[n].result(streams[n]), want[static_cast<size_t>((n + 2) % 4)]);
}

TEST_F(T15_Projections, TheTensorsDeviceComputesAndTheCurrentOneStays) {
  if (devices() < 2) GTEST_SKIP() << "needs several devices; runs on the virtual GPU (vgpu_T15_*)";
  const std::vector<float> want = Projection::on_cpu(5);
  for (int device = 0; device < devices(); ++device) {
    CUDA(cudaSetDevice(device));
    const Projection memory;
    const auto kept = memory.upload(5, nullptr);
    CUDA(cudaStreamSynchronize(nullptr));
    const int current = (device + 1) % devices();
    CUDA(cudaSetDevice(current));
    qkv_project_desc d = memory.desc();
    const Streams streams(1);
    d.device = QKV_DEVICE_CUDA;
    d.device_index = device;
    ASSERT_EQ(qkv_project(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
    int after = -1;
    CUDA(cudaGetDevice(&after));
    ASSERT_EQ(after, current);
    CUDA(cudaSetDevice(device));
    expect_close(memory.result(nullptr), want);
  }
  CUDA(cudaSetDevice(0));
}

// Each call of the runtime that a plan and its run make, the library's own among them, fails in
// turn: that is said, and the next plan and run are right.
TEST_F(T17_Projections, AnyOneCallFails) {
  const auto fail_call = probe<FailCall>("__cudaVgpuFailCall");
  if (fail_call == nullptr) GTEST_SKIP() << "needs the virtual GPU; runs there (vgpu_T17_*)";
  const Projection memory;
  const auto kept = memory.upload(7, nullptr);
  CUDA(cudaDeviceSynchronize());
  const qkv_project_desc d = memory.desc();
  const std::vector<float> want = Projection::on_cpu(7);
  const auto plan_and_run = [&] {
    qkv_plan* plan = nullptr;
    qkv_status status = qkv_project_plan_create(&d, &plan);
    if (status == QKV_SUCCESS) status = qkv_project_plan_run(plan, &d, nullptr);
    qkv_plan_destroy(plan);
    return status;
  };
  unsigned long long failures = 0;
  for (unsigned long long n = 1; n < 100; ++n) {
    (void)fail_call(n);
    const qkv_status status = plan_and_run();
    if (fail_call(0) == 0) break;  // there is no n-th call
    ++failures;
    const qkv_status kind = qkv_status_class(status);
    EXPECT_TRUE(kind == QKV_DEVICE_ERROR || kind == QKV_RESOURCE)
        << "call " << n << ": " << qkv_status_name(status) << ", " << qkv_last_error();
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "call " << n << " leaves an error";
    ASSERT_EQ(plan_and_run(), QKV_SUCCESS) << "after call " << n << ": " << qkv_last_error();
    expect_close(memory.result(nullptr), want);
  }
  EXPECT_GT(failures, 5);
  EXPECT_LT(failures, 99);
}

// A workspace of the plan's size, which holds NaN before each replay: nothing is allocated in the
// capture, and the bits are those of a call.
TEST_F(T18_Projections, ReplayWithChangedInputs) {
  const Streams streams(1);
  const Projection memory;
  qkv_project_desc d = memory.desc();
  qkv_plan* plan = nullptr;
  size_t bytes = 0;
  ASSERT_EQ(qkv_project_plan_create(&d, &plan), QKV_SUCCESS) << qkv_last_error();
  ASSERT_EQ(qkv_plan_workspace_size(plan, &bytes), QKV_SUCCESS);
  const Buffer workspace(std::max<size_t>(bytes, 256));
  d.flags = 0;
  d.workspace = workspace.data();
  d.workspace_size = bytes;
  // Outside of a capture first: it may load the library's kernel.
  auto kept = memory.upload(1, streams[0]);
  ASSERT_EQ(qkv_project_plan_run(plan, &d, streams[0]), QKV_SUCCESS) << qkv_last_error();
  CUDA(cudaStreamSynchronize(streams[0]));

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  CUDA(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeGlobal));
  EXPECT_EQ(qkv_project_plan_run(plan, &d, streams[0]), QKV_SUCCESS) << qkv_last_error();
  CUDA(cudaStreamEndCapture(streams[0], &graph));
  CUDA(cudaGraphInstantiate(&replay, graph, 0));
  CUDA(cudaGraphDestroy(graph));
  for (uint64_t seed = 10; seed < 13; ++seed) {
    kept = memory.upload(seed, streams[0]);
    CUDA(cudaMemsetAsync(workspace.data(), 0xff, workspace.bytes(), streams[0]));
    CUDA(cudaGraphLaunch(replay, streams[0]));
    const auto replayed = memory.result(streams[0]);
    expect_close(replayed, Projection::on_cpu(seed));
    kept = memory.upload(seed, streams[0]);
    ASSERT_EQ(qkv_project_plan_run(plan, &d, streams[0]), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(replayed, memory.result(streams[0])) << "seed " << seed;
  }
  CUDA(cudaGraphExecDestroy(replay));
  qkv_plan_destroy(plan);
}

}  // namespace
}  // namespace qkv::test
