// T18: calls in CUDA graphs.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/gpu/runtime.h"

namespace qkv::test {
namespace {

class T18_Graphs : public Gpu {
 protected:
  using Nodes = std::vector<cudaGraphNodeType>;

  // Allocations and synchronisations until now; 0 on a real device, where a capture forbids them.
  static unsigned long long forbidden_calls() {
    const auto calls = probe<CallsOf>("__cudaVgpuCalls");
    if (calls == nullptr) return 0;
    unsigned long long sum = 0;
    for (const char* name :
         {"cudaMalloc", "cudaMallocAsync", "cudaMallocFromPoolAsync", "cudaMallocHost",
          "cudaHostAlloc", "cudaMallocManaged", "cudaMallocPitch", "cudaFree", "cudaFreeAsync",
          "cudaFreeHost", "cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize",
          "cudaStreamQuery", "cudaEventQuery", "cudaMemcpy", "cudaMemset"}) {
      sum += calls(name);
    }
    return sum;
  }
  static int replays() { return on_virtual_gpu() ? 12 : 1000; }

  // What `body` puts into the stream, under the strictest mode.
  template <class Body>
  static cudaGraph_t captured(cudaStream_t stream, Body&& body) {
    cudaGraph_t graph = nullptr;
    const unsigned long long before = forbidden_calls();
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    body();
    EXPECT_EQ(forbidden_calls(), before) << "allocations and synchronisations";
    CUDA(cudaStreamEndCapture(stream, &graph));
    return graph;
  }

  // The nodes of a graph, sorted.
  static Nodes nodes_of(cudaGraph_t graph) {
    size_t count = 0;
    CUDA(cudaGraphGetNodes(graph, nullptr, &count));
    std::vector<cudaGraphNode_t> nodes(count);
    CUDA(cudaGraphGetNodes(graph, nodes.data(), &count));
    Nodes types(count);
    for (size_t n = 0; n < count; ++n) CUDA(cudaGraphNodeGetType(nodes[n], &types[n]));
    std::sort(types.begin(), types.end());
    return types;
  }

  // A capture of `want_kernels` kernels and nothing else.
  template <class Body>
  static cudaGraphExec_t capture(cudaStream_t stream, size_t want_kernels, Body&& body) {
    cudaGraph_t graph = captured(stream, body);
    cudaGraphExec_t exec = nullptr;
    EXPECT_EQ(nodes_of(graph), Nodes(want_kernels, cudaGraphNodeTypeKernel));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CUDA(cudaGraphDestroy(graph));
    return exec;
  }
};

TEST_F(T18_Graphs, ReplaysWithChangedInputsAndLengths) {
  for (const int k : {2, 3}) {
    const Streams streams(2);
    const Problem captured(kKinds[k], 1), direct(kKinds[k], 1);
    const qkv_attention_desc d = captured.desc(), e = direct.desc();
    qkv_plan* plan = nullptr;
    ASSERT_EQ(qkv_plan_create(&d, &plan), QKV_SUCCESS) << qkv_last_error();
    ASSERT_EQ(qkv_attention(&e, streams[1]), QKV_SUCCESS) << qkv_last_error();
    for (const bool one_shot : {false, true}) {
      const cudaGraphExec_t graph = capture(streams[0], 1, [&] {
        EXPECT_EQ(one_shot ? qkv_attention(&d, streams[0]) : qkv_plan_run(plan, &d, streams[0]),
                  QKV_SUCCESS)
            << qkv_last_error();
      });
      for (int i = 0; i < replays(); ++i) {
        const RandomInputs inputs(kKinds[k], static_cast<uint64_t>(1000 + i));
        captured.upload(inputs, streams[0]);
        direct.upload(inputs, streams[1]);
        CUDA(cudaGraphLaunch(graph, streams[0]));
        ASSERT_EQ(qkv_attention(&e, streams[1]), QKV_SUCCESS) << qkv_last_error();
        const auto bits = captured.result(streams[0]);
        ASSERT_EQ(bits, direct.result(streams[1])) << "replay " << i;
        if (i >= 3) continue;
        ASSERT_LT(distance_to_cpu(kKinds[k], inputs, bits), kCloseEnough);
      }
      CUDA(cudaGraphExecDestroy(graph));
    }
    qkv_plan_destroy(plan);
  }
}

// A launch that splits: partial results in the caller's workspace, which holds NaN before each
// replay, then combine.
TEST_F(T18_Graphs, ReplaysSplitsWithChangedInputs) {
  for (const bool fixed : {false, true}) {
    const Kind kind{QKV_TYPE_F16, 4, 2, 1, 900, 64, false, fixed};
    const Streams streams(1);
    const Problem problem(kind, 1);
    qkv_attention_desc d = problem.desc();
    if (fixed) d.fixed_split_size = 256;
    qkv_plan* plan = nullptr;
    size_t bytes = 0;
    ASSERT_EQ(qkv_plan_create(&d, &plan), QKV_SUCCESS) << qkv_last_error();
    ASSERT_EQ(qkv_plan_workspace_size(plan, &bytes), QKV_SUCCESS);
    if (bytes == 0) {
      qkv_plan_destroy(plan);
      GTEST_SKIP() << "no kernel of this device splits; runs on the virtual H100 (vgpu_T18_h100_1)";
    }
    const Buffer workspace(bytes);
    d.workspace = workspace.data();
    d.workspace_size = bytes;
    const cudaGraphExec_t graph = capture(streams[0], 2, [&] {
      EXPECT_EQ(qkv_plan_run(plan, &d, streams[0]), QKV_SUCCESS) << qkv_last_error();
    });
    for (uint64_t i = 0; i < 3; ++i) {
      const RandomInputs inputs(kind, 2000 + i);
      problem.upload(inputs, streams[0]);
      CUDA(cudaMemsetAsync(workspace.data(), 0xff, bytes, streams[0]));
      CUDA(cudaGraphLaunch(graph, streams[0]));
      const auto replayed = problem.result(streams[0]);
      EXPECT_LT(distance_to_cpu(kind, inputs, replayed), kCloseEnough) << "replay " << i;
      problem.upload(inputs, streams[0]);
      ASSERT_EQ(qkv_attention(&d, streams[0]), QKV_SUCCESS) << qkv_last_error();
      EXPECT_EQ(replayed, problem.result(streams[0])) << "replay " << i;
    }
    CUDA(cudaGraphExecDestroy(graph));
    qkv_plan_destroy(plan);
  }
}

// What a call of sm90_forward is made of. Equal tiles are numbered by their thread blocks; unequal
// ones are fetched by a counter, where there are more of them than multiprocessors, and the counter
// is set to 0: by a node of its own, or by mask_summary.
TEST_F(T18_Graphs, OneKernelWhereNothingElseIsNeeded) {
  int major = 0;
  CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  if (major != 9)
    GTEST_SKIP() << "is of sm_90's kernel; runs on the virtual H100 (vgpu_T18_h100_1)";
  const auto kKernel = cudaGraphNodeTypeKernel, kSet = cudaGraphNodeTypeMemset;
  struct Row {
    Kind kind;
    bool mask;
    Nodes want;
  };
  for (const Row& row : {
           Row{{QKV_TYPE_F16, 10, 10, 1024, 256, 128, false, false}, false, {kKernel}},
           Row{{QKV_TYPE_F16, 10, 10, 1024, 256, 128, true, false}, false, {kKernel, kSet}},
           Row{{QKV_TYPE_F16, 4, 4, 256, 256, 128, true, false}, false, {kKernel}},
           Row{{QKV_TYPE_F16, 10, 10, 1024, 256, 128, false, false}, true, {kKernel}},
           Row{{QKV_TYPE_F16, 10, 10, 2048, 2048, 128, false, false}, true, {kKernel, kKernel}},
           Row{{QKV_TYPE_F16, 10, 10, 2048, 2048, 128, true, false}, true, {kKernel, kKernel}},
       }) {
    const Streams streams(1);
    const Problem problem(row.kind, 1);
    const Buffer mask(static_cast<size_t>(row.kind.s_q * row.kind.s_kv));
    qkv_attention_desc d = problem.desc();
    if (row.mask) {
      const int64_t rows = row.kind.s_q, keys = row.kind.s_kv;
      d.mask = {mask.data(), QKV_TYPE_BOOL, 0, {1, 1, rows, keys}, {0, 0, keys, 1}};
    }
    qkv_plan* plan = nullptr;
    ASSERT_EQ(qkv_plan_create(&d, &plan), QKV_SUCCESS) << qkv_last_error();
    size_t bytes = 0;
    ASSERT_EQ(qkv_plan_workspace_size(plan, &bytes), QKV_SUCCESS);
    const Buffer workspace(std::max<size_t>(bytes, 1));
    d.workspace = workspace.data();
    d.workspace_size = bytes;
    const cudaGraph_t graph = captured(streams[0], [&] {
      EXPECT_EQ(qkv_plan_run(plan, &d, streams[0]), QKV_SUCCESS) << qkv_last_error();
    });
    EXPECT_EQ(nodes_of(graph), row.want)
        << row.kind.s_q << (row.kind.causal ? " causal" : "") << (row.mask ? " mask" : "");
    CUDA(cudaGraphDestroy(graph));
    qkv_plan_destroy(plan);
  }
}

// Two streams, forked and joined by events, are one graph.
TEST_F(T18_Graphs, ForkAndJoin) {
  const Streams streams(2);
  const Problem first(kKinds[0], 1), second(kKinds[1], 1);
  const qkv_attention_desc a = first.desc(), b = second.desc();
  for (const qkv_attention_desc* d : {&a, &b}) {
    ASSERT_EQ(qkv_attention(d, nullptr), QKV_SUCCESS) << qkv_last_error();
  }
  const auto want_a = first.result(nullptr), want_b = second.result(nullptr);
  cudaEvent_t fork_point, join_point;
  CUDA(cudaEventCreateWithFlags(&fork_point, cudaEventDisableTiming));
  CUDA(cudaEventCreateWithFlags(&join_point, cudaEventDisableTiming));
  const cudaGraphExec_t graph = capture(streams[0], 2, [&] {
    CUDA(cudaEventRecord(fork_point, streams[0]));
    CUDA(cudaStreamWaitEvent(streams[1], fork_point, 0));
    EXPECT_EQ(qkv_attention(&a, streams[0]), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(qkv_attention(&b, streams[1]), QKV_SUCCESS) << qkv_last_error();
    CUDA(cudaEventRecord(join_point, streams[1]));
    CUDA(cudaStreamWaitEvent(streams[0], join_point, 0));
  });
  for (int i = 0; i < 3; ++i) {
    first.upload(first.inputs(), streams[0]);
    second.upload(second.inputs(), streams[0]);
    CUDA(cudaGraphLaunch(graph, streams[0]));
    EXPECT_EQ(first.result(streams[0]), want_a);
    EXPECT_EQ(second.result(streams[0]), want_b);
  }
  CUDA(cudaGraphExecDestroy(graph));
  CUDA(cudaEventDestroy(fork_point));
  CUDA(cudaEventDestroy(join_point));
}

// While one thread captures, calls of the others go on: nothing that qkv does is unsafe.
TEST_F(T18_Graphs, OtherThreadsCallDuringACapture) {
  const Streams streams(1);
  const Problem captured(kKinds[1], 1), other(kKinds[0], 1);
  const qkv_attention_desc d = captured.desc(), e = other.desc();
  ASSERT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  ASSERT_EQ(qkv_attention(&e, nullptr), QKV_SUCCESS) << qkv_last_error();
  const auto want = captured.result(nullptr), want_other = other.result(nullptr);
  other.upload(other.inputs(), nullptr);
  const Streams theirs(1);
  CUDA(cudaDeviceSynchronize());
  const cudaGraphExec_t graph = capture(streams[0], 1, [&] {
    std::thread([&] {
      EXPECT_EQ(qkv_attention(&e, theirs[0]), QKV_SUCCESS) << qkv_last_error();
    }).join();
    EXPECT_EQ(qkv_attention(&d, streams[0]), QKV_SUCCESS) << qkv_last_error();
  });
  EXPECT_EQ(other.result(theirs[0]), want_other);
  captured.upload(captured.inputs(), streams[0]);
  CUDA(cudaGraphLaunch(graph, streams[0]));
  EXPECT_EQ(captured.result(streams[0]), want);
  CUDA(cudaGraphExecDestroy(graph));
}

// Two threads capture at once, each its own stream.
TEST_F(T18_Graphs, TwoThreadsCapture) {
  const Streams streams(2);
  const Problem first(kKinds[0], 1), second(kKinds[1], 1);
  const Problem* problems[] = {&first, &second};
  std::vector<std::vector<std::byte>> want;
  for (const Problem* p : problems) {
    const qkv_attention_desc d = p->desc();
    ASSERT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
    want.push_back(p->result(nullptr));
    p->upload(p->inputs(), nullptr);
  }
  CUDA(cudaDeviceSynchronize());
  std::atomic<int> inside{0};
  cudaGraph_t graphs[2] = {};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      CUDA(cudaStreamBeginCapture(streams[t], cudaStreamCaptureModeThreadLocal));
      ++inside;
      while (inside.load() < 2) std::this_thread::yield();
      const qkv_attention_desc d = problems[t]->desc();
      EXPECT_EQ(qkv_attention(&d, streams[t]), QKV_SUCCESS) << qkv_last_error();
      ++inside;
      while (inside.load() < 4) std::this_thread::yield();
      CUDA(cudaStreamEndCapture(streams[t], &graphs[t]));
    });
  }
  for (std::thread& t : threads) t.join();
  for (int t = 0; t < 2; ++t) {
    cudaGraphExec_t exec = nullptr;
    CUDA(cudaGraphInstantiate(&exec, graphs[t], 0));
    CUDA(cudaGraphLaunch(exec, streams[t]));
    EXPECT_EQ(problems[t]->result(streams[t]), want[static_cast<size_t>(t)]);
    CUDA(cudaGraphExecDestroy(exec));
    CUDA(cudaGraphDestroy(graphs[t]));
  }
}

}  // namespace
}  // namespace qkv::test
