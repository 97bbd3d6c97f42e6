// T14 and T18 for layers, which queue several kernels for one call: streams, CUDA graphs.
#include <gtest/gtest.h>

#include <vector>

#include "tests/gpu/runtime.h"

namespace qkv::test {
namespace {

constexpr int64_t kRows = 20, kWidth = 48, kHeads = 3, kHeadsKv = 1, kDim = 16;
constexpr int64_t kPacked = (kHeads + 2 * kHeadsKv) * kDim, kInner = kHeads * kDim;

// One causal layer in fp32 on the device that is current when it is made, with its workspace: a
// plan's, so that no run allocates.
class LayerMemory {
 public:
  LayerMemory()
      : x_(kBatch * kRows * kWidth * 4),
        w_qkv_(kPacked * kWidth * 4),
        w_o_(kWidth * kInner * 4),
        y_(kBatch * kRows * kWidth * 4),
        workspace_(1 << 26) {
    EXPECT_EQ(qkv_attention_desc_init(&attention_, sizeof attention_), QKV_SUCCESS);
    attention_.causal = 1;
  }

  // What is returned must outlive the work of the stream. The workspace holds NaN.
  std::vector<std::vector<std::byte>> upload(uint64_t seed, cudaStream_t stream) const {
    std::vector<std::vector<std::byte>> images{random_bytes(kBatch * kRows * kWidth, seed, 0.3F),
                                               random_bytes(kPacked * kWidth, seed + 1, 0.3F),
                                               random_bytes(kWidth * kInner, seed + 2, 0.3F)};
    x_.put(images[0], stream), w_qkv_.put(images[1], stream), w_o_.put(images[2], stream);
    CUDA(cudaMemsetAsync(y_.data(), 0xff, y_.bytes(), stream));
    CUDA(cudaMemsetAsync(workspace_.data(), 0xff, 1 << 16, stream));
    return images;
  }
  std::vector<std::byte> result(cudaStream_t stream) const {
    std::vector<std::byte> out(y_.bytes());
    y_.get(out.data(), stream);
    CUDA(cudaStreamSynchronize(stream));
    return out;
  }

  qkv_layer_desc desc() const {
    qkv_layer_desc d = desc(x_.data(), w_qkv_.data(), w_o_.data(), y_.data());
    d.workspace = workspace_.data();
    d.workspace_size = workspace_.bytes();
    return d;
  }

  // What the CPU makes of the seed's tensors.
  std::vector<float> on_cpu(uint64_t seed) const {
    std::vector<std::byte> x = random_bytes(kBatch * kRows * kWidth, seed, 0.3F),
                           w_qkv = random_bytes(kPacked * kWidth, seed + 1, 0.3F),
                           w_o = random_bytes(kWidth * kInner, seed + 2, 0.3F);
    std::vector<float> y(static_cast<size_t>(kBatch * kRows * kWidth));
    qkv_layer_desc d = desc(x.data(), w_qkv.data(), w_o.data(), y.data());
    d.device = QKV_DEVICE_CPU;
    d.flags = QKV_FLAG_ALLOW_ALLOCATION;
    EXPECT_EQ(qkv_layer(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
    return y;
  }

 private:
  qkv_layer_desc desc(void* x, void* w_qkv, void* w_o, void* y) const {
    qkv_layer_desc d;
    EXPECT_EQ(qkv_layer_desc_init(&d, sizeof d), QKV_SUCCESS);
    d.heads_q = kHeads;
    d.heads_kv = kHeadsKv;
    const int64_t batch = kRows * kWidth;
    d.x_q = {x, QKV_TYPE_F32, 0, {kBatch, 1, kRows, kWidth}, {batch, 0, kWidth, 1}};
    d.w_qkv = {w_qkv, QKV_TYPE_F32, 0, {1, 1, kPacked, kWidth}, {0, 0, kWidth, 1}};
    d.w_o = {w_o, QKV_TYPE_F32, 0, {1, 1, kWidth, kInner}, {0, 0, kInner, 1}};
    d.y = {y, QKV_TYPE_F32, 0, {kBatch, 1, kRows, kWidth}, {batch, 0, kWidth, 1}};
    d.attention = &attention_;
    return d;
  }

  Buffer x_, w_qkv_, w_o_, y_, workspace_;
  qkv_attention_desc attention_;
};

// Sums of 48 terms, twice, and what they move in scores.
void expect_close(const std::vector<std::byte>& bits, const std::vector<float>& want) {
  const auto* got = reinterpret_cast<const float*>(bits.data());
  for (size_t n = 0; n < want.size(); ++n) ASSERT_NEAR(got[n], want[n], 1e-4) << n;
}

using T14_Layers = Gpu;
using T18_Layers = Gpu;

TEST_F(T14_Layers, StreamsKeepTheirOrder) {
  const Streams streams(3);
  const LayerMemory memory[3];
  std::vector<std::vector<std::vector<std::byte>>> kept;
  for (int turn = 0; turn < 3; ++turn)
    for (int n = 0; n < 3; ++n) {
      kept.push_back(memory[n].upload(static_cast<uint64_t>((n + turn) % 3), streams[n]));
      const qkv_layer_desc d = memory[n].desc();
      ASSERT_EQ(qkv_layer(&d, streams[n]), QKV_SUCCESS) << qkv_last_error();
    }
  for (int n = 0; n < 3; ++n)
    expect_close(memory[n].result(streams[n]),
                 memory[n].on_cpu(static_cast<uint64_t>((n + 2) % 3)));
}

// All steps are in the graph, nothing is allocated in the capture, and the bits are those of a
// call.
TEST_F(T18_Layers, ReplayWithChangedInputs) {
  const Streams streams(1);
  const LayerMemory memory;
  const qkv_layer_desc d = memory.desc();
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_layer_plan_create(&d, &plan), QKV_SUCCESS) << qkv_last_error();
  // Outside of a capture first: it may load the products' kernels.
  auto kept = memory.upload(1, streams[0]);
  ASSERT_EQ(qkv_layer_plan_run(plan, &d, streams[0]), QKV_SUCCESS) << qkv_last_error();
  CUDA(cudaStreamSynchronize(streams[0]));

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  CUDA(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeGlobal));
  EXPECT_EQ(qkv_layer_plan_run(plan, &d, streams[0]), QKV_SUCCESS) << qkv_last_error();
  CUDA(cudaStreamEndCapture(streams[0], &graph));
  size_t nodes = 0;
  CUDA(cudaGraphGetNodes(graph, nullptr, &nodes));
  EXPECT_GE(nodes, 3u);
  CUDA(cudaGraphInstantiate(&replay, graph, 0));
  CUDA(cudaGraphDestroy(graph));
  for (uint64_t seed = 10; seed < 13; ++seed) {
    kept = memory.upload(seed, streams[0]);
    CUDA(cudaGraphLaunch(replay, streams[0]));
    const auto replayed = memory.result(streams[0]);
    expect_close(replayed, memory.on_cpu(seed));
    kept = memory.upload(seed, streams[0]);
    ASSERT_EQ(qkv_layer_plan_run(plan, &d, streams[0]), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(replayed, memory.result(streams[0])) << "seed " << seed;
  }
  CUDA(cudaGraphExecDestroy(replay));
  qkv_plan_destroy(plan);
}

}  // namespace
}  // namespace qkv::test
