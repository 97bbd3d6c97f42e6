// Many threads, one library: mixed calls give bit for bit what one thread gets. ThreadSanitizer
// judges this program too; there the CPU backend keeps to the calling thread, since libgomp is not
// instrumented.
#include <gtest/gtest.h>
#include <omp.h>

#include <atomic>
#include <string>
#include <thread>

#include "host/core/plan_cache.h"
#include "tests/support/elements.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/full_problem.h"

namespace qkv::test {
namespace {

constexpr int kThreads = 16;
constexpr int kCalls = 150;

template <class Body>
void in_threads(Body&& body) {
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int n = 0; n < kThreads; ++n) {
    threads.emplace_back([&, n] {
      omp_set_num_threads(1);
      while (!go.load()) std::this_thread::yield();
      body(n);
    });
  }
  go.store(true);
  for (std::thread& thread : threads) thread.join();
}

// Problem `kind` with its own inputs; small ones of every sort of option.
constexpr int kKinds = 12;

void make(int kind, FullProblem* f) {
  Random random(static_cast<uint64_t>(kind) + 1);
  for (auto* data : {&f->q, &f->k, &f->v, &f->bias_data, &f->additive_data, &f->slope_data}) {
    for (float& x : *data) x = static_cast<float>(random.normal());
  }
  qkv_attention_desc& d = f->desc;
  if (kind % 2 == 1) d.causal = 1;
  if (kind % 3 == 1) d.selection = QKV_SELECT_HARD, d.index = f->index;
  if (kind % 6 == 4) d.selection = QKV_SELECT_TOP_K, d.top_k = 1;  // the index has room for one
  if (kind % 3 == 2) d.weights = f->weights, d.weights_mode = kind % 4;
  if (kind % 4 == 2) d.bias = f->bias;
  if (kind % 4 == 3) d.score = QKV_SCORE_ADDITIVE, d.additive_weight = f->additive_weight;
  if (kind % 5 == 3) d.kv_lengths = f->kv_lengths;
  if (kind % 5 == 4) d.alibi_slopes = f->alibi_slopes;
  d.k.shape[2] = d.v.shape[2] = kind % 6 == 5 ? 4 : 5;
  if (d.weights.type != QKV_TYPE_NONE) d.weights.shape[3] = d.k.shape[2];
  if (d.bias.type != QKV_TYPE_NONE) d.bias.shape[3] = d.k.shape[2];
  if (d.kv_lengths.type != QKV_TYPE_NONE) f->length_data = {2, 4};
  d.kv_lengths.data = d.kv_lengths.type == QKV_TYPE_NONE ? nullptr : f->length_data.data();
}

TEST(Threads, MixedCallsOnTheCpuEqualSerialOnes) {
  host::clear_plan_cache();
  omp_set_num_threads(1);
  std::vector<FullProblem::Outputs> want;
  for (int kind = 0; kind < kKinds; ++kind) {
    FullProblem f;
    make(kind, &f);
    ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    want.push_back(f.outputs());
  }
  host::clear_plan_cache();  // the threads race to make the plans
  std::atomic<int> wrong{0};
  in_threads([&](int thread) {
    Random random(static_cast<uint64_t>(thread) + 99);
    for (int call = 0; call < kCalls; ++call) {
      const auto kind = static_cast<int>(random.integer(0, kKinds - 1));
      FullProblem f;
      make(kind, &f);
      if (qkv_attention(&f.desc, nullptr) != QKV_SUCCESS) ++wrong;
      if (!(f.outputs() == want[static_cast<size_t>(kind)])) ++wrong;
    }
  });
  EXPECT_EQ(wrong.load(), 0);
}

// One plan, run by all.
TEST(Threads, ShareAPlan) {
  omp_set_num_threads(1);
  FullProblem reference;
  make(2, &reference);
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&reference.desc, &plan), QKV_SUCCESS) << qkv_last_error();
  ASSERT_EQ(qkv_plan_run(plan, &reference.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  std::atomic<int> wrong{0};
  in_threads([&](int) {
    for (int call = 0; call < kCalls; ++call) {
      FullProblem f;
      make(2, &f);
      if (qkv_plan_run(plan, &f.desc, nullptr) != QKV_SUCCESS) ++wrong;
      if (!(f.outputs() == reference.outputs())) ++wrong;
    }
  });
  qkv_plan_destroy(plan);
  EXPECT_EQ(wrong.load(), 0);
}

// Every thread on its own current device, calling for tensors on all four, with more shapes than
// the cache holds.
TEST(Threads, KeepTheirDevicesAndErrors) {
  FakeCuda cuda({fake_device(80), fake_device(90), fake_device(75), fake_device(120)});
  cuda.record_launches = false;
  FullProblem data[4];
  for (int32_t device = 0; device < 4; ++device) {
    for (const auto* v :
         {&data[device].q, &data[device].k, &data[device].v, &data[device].o, &data[device].lse}) {
      cuda.map(v->data(), v->size() * sizeof(float), host::Memory::kDevice, device);
    }
  }
  host::clear_plan_cache();
  std::atomic<int> wrong{0};
  in_threads([&](int thread) {
    const int32_t mine = thread % 4;
    FakeCuda::current_device() = mine;
    Random random(static_cast<uint64_t>(thread));
    for (int call = 0; call < 10 * kCalls; ++call) {
      qkv_attention_desc desc = data[random.integer(0, 3)].desc;
      desc.device = QKV_DEVICE_AUTO;
      desc.k.stride[2] = desc.v.stride[2] = 0;
      desc.k.shape[2] = desc.v.shape[2] = random.integer(1, 300);
      const bool refused = random.bits() % 8 == 0;
      const int index = 1000 * thread + call + 10;
      if (refused) desc.device = QKV_DEVICE_CUDA, desc.device_index = index;
      const qkv_status status = qkv_attention(&desc, nullptr);
      if (status != (refused ? QKV_DEVICE_ERROR_NONE : QKV_SUCCESS)) ++wrong;
      const std::string word = "device_index is " + std::to_string(index) + ";";
      if (refused && std::string(qkv_last_error()).find(word) == std::string::npos) ++wrong;
      if (FakeCuda::current_device() != mine) ++wrong;
      if (random.bits() % 512 == 0) host::clear_plan_cache();
    }
  });
  EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
}  // namespace qkv::test
