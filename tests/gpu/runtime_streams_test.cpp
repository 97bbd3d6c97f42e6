// T14: threads and streams that meet.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/gpu/runtime.h"
#include "tests/support/elements.h"

namespace qkv::test {
namespace {

using T14_ThreadsAndStreams = Gpu;

TEST_F(T14_ThreadsAndStreams, MixedCallsEqualSerialOnes) {
  constexpr int kThreads = 16, kStreams = 8;
  const int rounds = on_virtual_gpu() ? 1 : 100;
  const auto want = serial_results();
  std::atomic<int> wrong{0}, failed{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const Streams streams(kStreams);
      std::vector<std::unique_ptr<Problem>> problems;
      std::vector<int> kinds;
      Random random(static_cast<uint64_t>(t));
      for (int s = 0; s < kStreams; ++s) {  // the first is the same in all threads
        kinds.push_back(s == 0 ? 0 : static_cast<int>(random.integer(0, kKindCount - 1)));
        problems.push_back(
            std::make_unique<Problem>(kKinds[kinds.back()], static_cast<uint64_t>(kinds.back())));
      }
      while (!go.load()) std::this_thread::yield();
      for (int round = 0; round < rounds; ++round) {
        for (int s = 0; s < kStreams; ++s) {
          const Problem& p = *problems[static_cast<size_t>(s)];
          p.upload(p.inputs(), streams[s]);
          const qkv_attention_desc d = p.desc();
          if (qkv_attention(&d, streams[s]) != QKV_SUCCESS) ++failed;
        }
        for (int s = kStreams; s-- > 0;) {  // the last first
          const auto got = problems[static_cast<size_t>(s)]->result(streams[s]);
          if (got != want[static_cast<size_t>(kinds[static_cast<size_t>(s)])]) ++wrong;
        }
      }
    });
  }
  go = true;
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(failed.load(), 0);
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(T14_ThreadsAndStreams, OnePlanServesAll) {
  constexpr int kThreads = 8;
  const Problem reference(kKinds[2], 7);
  qkv_attention_desc d = reference.desc();
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&d, &plan), QKV_SUCCESS) << qkv_last_error();
  ASSERT_EQ(qkv_plan_run(plan, &d, nullptr), QKV_SUCCESS) << qkv_last_error();
  const auto want = reference.result(nullptr);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      const Streams streams(2);
      for (int s = 0; s < 2; ++s) {
        const Problem p(kKinds[2], 7);
        const qkv_attention_desc mine = p.desc();
        if (qkv_plan_run(plan, &mine, streams[s]) != QKV_SUCCESS) ++wrong;
        if (p.result(streams[s]) != want) ++wrong;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  qkv_plan_destroy(plan);
  EXPECT_EQ(wrong.load(), 0);
}

// Of a thread that has never called CUDA, with plans that other threads have made and with new
// ones.
TEST_F(T14_ThreadsAndStreams, AThreadsFirstCallMayBeQkvs) {
  const auto want = serial_results();
  for (const bool planned : {true, false}) {
    for (int k = 0; k < kKindCount; ++k) {
      Kind kind = kKinds[k];
      if (!planned) kind.s_kv += 1;
      const Problem p(kind, static_cast<uint64_t>(k));
      const qkv_attention_desc d = p.desc();
      CUDA(cudaDeviceSynchronize());
      qkv_status status = QKV_INTERNAL;
      std::string message;
      std::thread([&] {
        status = qkv_attention(&d, nullptr);
        message = qkv_last_error();
      }).join();
      EXPECT_EQ(status, QKV_SUCCESS) << "kind " << k << ": " << message;
      const auto got = p.result(nullptr);
      if (planned) {
        EXPECT_EQ(got, want[static_cast<size_t>(k)]) << "kind " << k;
      }
      EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), got), kCloseEnough) << "kind " << k;
    }
  }
}

// A call waits for what its stream did before, and what follows in the stream waits for the call.
TEST_F(T14_ThreadsAndStreams, CallsKeepTheOrderOfTheirStream) {
  const Streams streams(2);
  const Problem p(kKinds[1], 1);
  const qkv_attention_desc d = p.desc();
  std::vector<RandomInputs> inputs;
  std::vector<std::vector<std::byte>> want, got;
  for (uint64_t i = 0; i < 6; ++i) {
    inputs.emplace_back(p.kind(), 100 + i);
    p.upload(inputs.back(), streams[0]);
    ASSERT_EQ(qkv_attention(&d, streams[0]), QKV_SUCCESS) << qkv_last_error();
    want.push_back(p.result(streams[0]));
  }
  // Now without waiting between the calls: results leave through a queue of copies.
  const size_t bytes = want[0].size();
  std::vector<std::byte*> pinned;
  const size_t o_bytes = p.inputs().q.size();
  for (size_t i = 0; i < inputs.size(); ++i) {
    pinned.push_back(nullptr);
    CUDA(cudaMallocHost(reinterpret_cast<void**>(&pinned.back()), bytes));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    p.upload(inputs[i], streams[1]);
    ASSERT_EQ(qkv_attention(&d, streams[1]), QKV_SUCCESS) << qkv_last_error();
    CUDA(cudaMemcpyAsync(pinned[i], d.o.data, o_bytes, cudaMemcpyDeviceToHost, streams[1]));
    CUDA(cudaMemcpyAsync(pinned[i] + o_bytes, d.lse.data, bytes - o_bytes, cudaMemcpyDeviceToHost,
                         streams[1]));
  }
  CUDA(cudaStreamSynchronize(streams[1]));
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_TRUE(std::equal(want[i].begin(), want[i].end(), pinned[i])) << "call " << i;
    CUDA(cudaFreeHost(pinned[i]));
  }
}

}  // namespace
}  // namespace qkv::test
