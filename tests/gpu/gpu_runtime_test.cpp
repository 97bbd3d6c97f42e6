// How calls of qkv live with the CUDA runtime around them: the risks T14 to T18. The same program
// runs on real devices and on the virtual GPU, which besides counts runtime calls and makes any one
// of them fail.
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "qkv/qkv.h"
#include "tests/gpu/trap_kernel.h"
#include "tests/support/elements.h"

namespace qkv::test {
namespace {

// --- the virtual GPU's own entry points, null on a real runtime

using CallsOf = unsigned long long (*)(const char* name);
using FailCall = int (*)(unsigned long long n);
using FailWith = void (*)(int error);

template <class F>
F probe(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
}
bool on_virtual_gpu() { return probe<CallsOf>("__cudaVgpuCalls") != nullptr; }

// --- problems in device memory

struct Kind {
  qkv_type type;
  int64_t heads_q, heads_kv, s_q, s_kv, d;
  bool causal, lengths;
};
constexpr int64_t kBatch = 2;
constexpr Kind kKinds[] = {
    {QKV_TYPE_F32, 2, 1, 5, 37, 16, false, false}, {QKV_TYPE_F16, 2, 2, 17, 17, 32, true, false},
    {QKV_TYPE_BF16, 4, 2, 9, 40, 64, true, true},  {QKV_TYPE_F16, 1, 1, 1, 65, 128, false, true},
    {QKV_TYPE_F32, 1, 1, 33, 12, 24, true, false}, {QKV_TYPE_BF16, 2, 1, 3, 20, 80, false, false},
};
constexpr int kKindCount = static_cast<int>(std::size(kKinds));

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}
#define CUDA(call) check(call, #call)

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

size_t element_bytes(qkv_type type) { return type == QKV_TYPE_F32 ? 4 : 2; }

std::vector<std::byte> numbers(qkv_type type, int64_t count, Random& random) {
  std::vector<std::byte> image(static_cast<size_t>(count) * element_bytes(type));
  for (int64_t i = 0; i < count; ++i) {
    store(type, &image[static_cast<size_t>(i) * element_bytes(type)], random.normal());
  }
  return image;
}

struct Inputs {
  std::vector<std::byte> q, k, v, lengths;

  Inputs(const Kind& kind, uint64_t seed) {
    Random random(seed);
    q = numbers(kind.type, kBatch * kind.heads_q * kind.s_q * kind.d, random);
    k = numbers(kind.type, kBatch * kind.heads_kv * kind.s_kv * kind.d, random);
    v = numbers(kind.type, kBatch * kind.heads_kv * kind.s_kv * kind.d, random);
    lengths.resize(kBatch * sizeof(int32_t));
    for (int64_t b = 0; b < kBatch; ++b) {
      write(&lengths[static_cast<size_t>(b) * 4],
            static_cast<int32_t>(random.integer(1, kind.s_kv)));
    }
  }
};

qkv_tensor contiguous(void* data, qkv_type type, std::array<int64_t, 4> shape) {
  qkv_tensor t{};
  t.data = data;
  t.type = type;
  int64_t stride = 1;
  for (size_t axis = 4; axis-- > 0; stride *= shape[axis]) {
    t.shape[axis] = shape[axis];
    t.stride[axis] = stride;
  }
  return t;
}

using Addresses = std::array<void*, 6>;  // q, k, v, lengths, o, lse

qkv_attention_desc describe(const Kind& kind, const Addresses& at, qkv_device device) {
  qkv_attention_desc d;
  (void)qkv_attention_desc_init(&d, sizeof d);
  d.device = device;
  d.q = contiguous(at[0], kind.type, {kBatch, kind.heads_q, kind.s_q, kind.d});
  d.k = contiguous(at[1], kind.type, {kBatch, kind.heads_kv, kind.s_kv, kind.d});
  d.v = contiguous(at[2], kind.type, {kBatch, kind.heads_kv, kind.s_kv, kind.d});
  if (kind.lengths) d.kv_lengths = contiguous(at[3], QKV_TYPE_I32, {kBatch, 1, 1, 1});
  d.o = contiguous(at[4], kind.type, {kBatch, kind.heads_q, kind.s_q, kind.d});
  d.lse = contiguous(at[5], QKV_TYPE_F32, {kBatch, kind.heads_q, kind.s_q, 1});
  d.causal = kind.causal ? 1 : 0;
  if (device == QKV_DEVICE_CPU) d.flags = QKV_FLAG_ALLOW_ALLOCATION;
  return d;
}

// The memory of one call on the device that is current when it is made.
class Problem {
 public:
  Problem(const Kind& kind, uint64_t seed)
      : kind_(kind),
        inputs_(kind, seed),
        q_(inputs_.q.size()),
        k_(inputs_.k.size()),
        v_(inputs_.v.size()),
        lengths_(inputs_.lengths.size()),
        o_(inputs_.q.size()),
        lse_(static_cast<size_t>(kBatch * kind.heads_q * kind.s_q) * sizeof(float)) {
    upload(inputs_, nullptr);
    CUDA(cudaStreamSynchronize(nullptr));
  }

  qkv_attention_desc desc(qkv_device device = QKV_DEVICE_AUTO) const {
    return describe(
        kind_, {q_.data(), k_.data(), v_.data(), lengths_.data(), o_.data(), lse_.data()}, device);
  }
  // `inputs` must outlive the work of the stream.
  void upload(const Inputs& inputs, cudaStream_t stream) const {
    q_.put(inputs.q, stream);
    k_.put(inputs.k, stream);
    v_.put(inputs.v, stream);
    lengths_.put(inputs.lengths, stream);
    CUDA(cudaMemsetAsync(o_.data(), 0xff, o_.bytes(), stream));
    CUDA(cudaMemsetAsync(lse_.data(), 0xff, lse_.bytes(), stream));
  }
  // O and LSE when the stream has come so far.
  std::vector<std::byte> result(cudaStream_t stream) const {
    std::vector<std::byte> bits(o_.bytes() + lse_.bytes());
    o_.get(bits.data(), stream);
    lse_.get(bits.data() + o_.bytes(), stream);
    CUDA(cudaStreamSynchronize(stream));
    return bits;
  }
  const Kind& kind() const { return kind_; }
  const Inputs& inputs() const { return inputs_; }

 private:
  Kind kind_;
  Inputs inputs_;
  Buffer q_, k_, v_, lengths_, o_, lse_;
};

// The largest difference to the CPU backend's result: what the bits below are compared to is right.
double distance_to_cpu(const Kind& kind, const Inputs& given, const std::vector<std::byte>& bits) {
  Inputs in = given;
  std::vector<std::byte> o(in.q.size()), lse(bits.size() - o.size());
  const qkv_attention_desc d = describe(
      kind, {in.q.data(), in.k.data(), in.v.data(), in.lengths.data(), o.data(), lse.data()},
      QKV_DEVICE_CPU);
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  double worst = 0;
  const auto compare = [&](qkv_type type, const std::byte* a, const std::byte* b, size_t bytes) {
    for (size_t i = 0; i < bytes; i += element_bytes(type)) {
      const double x = load(type, a + i), y = load(type, b + i);
      if (x == y) continue;
      const double error = std::fabs(x - y) / (1 + std::fabs(y)) / unit_roundoff(type);
      worst = std::isnan(error) ? kInf : std::max(worst, error);
    }
  };
  compare(kind.type, bits.data(), o.data(), o.size());
  compare(QKV_TYPE_F32, bits.data() + o.size(), lse.data(), lse.size());
  return worst;
}
constexpr double kCloseEnough = 64;  // units; a wrong key or row is off by thousands

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    if (error != cudaSuccess || count == 0) GTEST_SKIP() << "no CUDA device";
    devices_ = count;
  }
  int devices() const { return devices_; }

 private:
  int devices_ = 0;
};

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

std::vector<std::vector<std::byte>> serial_results() {
  std::vector<std::vector<std::byte>> want;
  for (int k = 0; k < kKindCount; ++k) {
    const Problem p(kKinds[k], static_cast<uint64_t>(k));
    const qkv_attention_desc d = p.desc();
    EXPECT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
    want.push_back(p.result(nullptr));
    EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), want.back()), kCloseEnough) << "kind " << k;
  }
  return want;
}

// --- T14: threads and streams

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
  std::vector<Inputs> inputs;
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

// --- T15: several devices

using T15_Devices = Gpu;

TEST_F(T15_Devices, TheTensorsDeviceComputesAndTheCurrentOneStays) {
  if (devices() < 2) GTEST_SKIP() << "needs several devices";
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
  if (devices() < 2) GTEST_SKIP() << "needs several devices";
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
  if (devices() < 2) GTEST_SKIP() << "needs several devices";
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

// --- T16: errors that were there before, and errors of ours

using T16_Errors = Gpu;

// Whether this program and libqkv call the same CUDA runtime.
constexpr bool kSharedRuntime = QKV_TEST_SHARED_RUNTIME;

// CUDA's runtime keeps the last error of a thread. libqkv.so has a runtime of its own inside and
// does not see the program's; where both share one (libqkv.a, the virtual GPU) it would mistake the
// error for its own, and says so instead. Either way it leaves the error to the program.
TEST_F(T16_Errors, AnEarlierPlainErrorIsReportedOrUnseenAndLeft) {
  const Problem p(kKinds[0], 1);
  const qkv_attention_desc d = p.desc();
  ASSERT_EQ(cudaSetDevice(99), cudaErrorInvalidDevice);
  for (int call = 0; call < 2; ++call) {
    const qkv_status status = qkv_attention(&d, nullptr);
    if (kSharedRuntime) {
      EXPECT_EQ(status, QKV_DEVICE_ERROR_PRIOR);
      EXPECT_NE(std::string(qkv_last_error()).find("cudaErrorInvalidDevice"), std::string::npos)
          << qkv_last_error();
    } else {
      EXPECT_EQ(status, QKV_SUCCESS) << qkv_last_error();
    }
    EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice);
  }
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), p.result(nullptr)), kCloseEnough);
}

TEST_F(T16_Errors, OursLeaveNothingBehind) {
  const Problem p(kKinds[0], 1);
  const auto refuse = [&](auto&& spoil) {
    qkv_attention_desc d = p.desc();
    spoil(d);
    EXPECT_NE(qkv_attention(&d, nullptr), QKV_SUCCESS);
    EXPECT_STRNE(qkv_last_error(), "");
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << qkv_last_error();
    d = p.desc();
    EXPECT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  };
  refuse([](qkv_attention_desc& d) { d.q.type = QKV_TYPE_BOOL; });
  refuse([](qkv_attention_desc& d) { d.device = QKV_DEVICE_CUDA, d.device_index = 99; });
  refuse([](qkv_attention_desc& d) { d.fixed_split_size = -1; });
  std::vector<float> host(1 << 16);
  refuse([&](qkv_attention_desc& d) { d.k.data = host.data(); });
  EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), p.result(nullptr)), kCloseEnough);
}

// The device has faulted: every call says so, as an earlier error and in CUDA's words, and the CPU
// backend works on. Each such test needs a process of its own.
TEST_F(T16_Errors, AnEarlierFaultIsReportedForGood) {
  const Problem p(kKinds[0], 1);
  const qkv_attention_desc d = p.desc();
  ASSERT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  const auto bits = p.result(nullptr);
  launch_trap(nullptr);
  const cudaError_t fault = cudaDeviceSynchronize();
  ASSERT_NE(fault, cudaSuccess);
  (void)cudaGetLastError();  // does not clear it
  qkv_plan* plan = nullptr;
  for (int call = 0; call < 2; ++call) {
    EXPECT_EQ(qkv_attention(&d, nullptr), QKV_DEVICE_ERROR_PRIOR) << qkv_last_error();
    EXPECT_NE(std::string(qkv_last_error()).find(cudaGetErrorName(fault)), std::string::npos)
        << qkv_last_error();
    EXPECT_NE(qkv_plan_create(&d, &plan), QKV_INTERNAL);
    qkv_plan_destroy(plan);
    plan = nullptr;
  }
  EXPECT_EQ(cudaDeviceSynchronize(), fault);
  EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), bits), kCloseEnough);
}

// In a process that never called qkv before the fault: nothing of the failing queries is believed.
TEST_F(T16_Errors, AFaultBeforeTheFirstCallIsReported) {
  const Problem p(kKinds[0], 1);
  const qkv_attention_desc d = p.desc();
  launch_trap(nullptr);
  const cudaError_t fault = cudaDeviceSynchronize();
  ASSERT_NE(fault, cudaSuccess);
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_DEVICE_ERROR_PRIOR) << qkv_last_error();
  EXPECT_NE(std::string(qkv_last_error()).find(cudaGetErrorName(fault)), std::string::npos)
      << qkv_last_error();
}

// A fault that is still under way when qkv is called is not qkv's: the call may succeed, and after
// the next synchronisation it is an earlier error.
TEST_F(T16_Errors, AFaultUnderWayIsNotOurs) {
  const Problem p(kKinds[0], 1);
  const qkv_attention_desc d = p.desc();
  launch_trap(nullptr);
  const qkv_status status = qkv_attention(&d, nullptr);
  EXPECT_TRUE(status == QKV_SUCCESS || qkv_status_class(status) == QKV_DEVICE_ERROR)
      << qkv_status_name(status) << ": " << qkv_last_error();
  ASSERT_NE(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_DEVICE_ERROR_PRIOR) << qkv_last_error();
}

// --- T17: any one runtime call fails

// One step of a program that uses qkv: what it returns, QKV_SUCCESS if all is well.
struct Step {
  const char* name;
  std::function<qkv_status()> run;
  bool has_message = true;
};

// In a child process, where the library has not been called yet: the n-th runtime call that qkv
// makes fails: with `error`, or with what is likeliest of it (cudaSuccess). Returns 0: all held; 1:
// something did not; 2: there is no n-th call; 3: all held, and the step succeeded all the same.
int with_failing_call(unsigned long long n, int device, cudaError_t error) {
  probe<FailWith>("__cudaVgpuFailWith")(error);
  // A kernel of which CUDA says this may be passed over: then another one has computed.
  const bool passes_over = error == cudaErrorNoKernelImageForDevice;
  const auto fail_call = probe<FailCall>("__cudaVgpuFailCall");
  int wrong = 0;
  const auto expect = [&](bool holds, const char* step, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "call %llu fails, %s: %s; last error: %s\n", n, step, what,
                 qkv_last_error());
    ++wrong;
  };
  CUDA(cudaSetDevice(device));
  const Problem p({QKV_TYPE_F16, 2, 1, 2, 9, 16, true, true}, 5);
  CUDA(cudaSetDevice(0));
  const auto free_bytes = [&] {
    size_t free = 0, total = 0;
    CUDA(cudaSetDevice(device));
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemGetInfo(&free, &total));
    CUDA(cudaSetDevice(0));
    return free;
  };
  const size_t before = free_bytes();
  const qkv_attention_desc d = p.desc();
  qkv_plan* plan = nullptr;
  std::vector<std::vector<std::byte>> results;
  const auto facts = [&] {
    qkv_device_facts f{};
    f.struct_size = sizeof f;
    return qkv_device_query(device, &f);
  };
  // A query answers what is the matter instead of failing.
  const auto query = [&]() -> qkv_status {
    qkv_query_result r{};
    r.struct_size = sizeof r;
    const qkv_status status = qkv_query(&d, &r);
    if (status != QKV_SUCCESS || r.supported != 0) return status;
    return std::string(r.reasons).find("cuda") != std::string::npos ? QKV_DEVICE_ERROR
                                                                    : QKV_INTERNAL;
  };
  const Step steps[] = {
      {"qkv_device_count", [] { return qkv_device_count() > 0 ? 0 : QKV_DEVICE_ERROR; }, false},
      {"qkv_device_query", facts},
      {"qkv_query", query, false},
      {"qkv_plan_create", [&] { return qkv_plan_create(&d, &plan); }},
      {"qkv_plan_run", [&] { return qkv_plan_run(plan, &d, nullptr); }},
      {"qkv_attention", [&] { return qkv_attention(&d, nullptr); }},
      {"qkv_attention again", [&] { return qkv_attention(&d, nullptr); }},
  };
  unsigned long long left = n;
  bool happened = false, passed_over = false;
  for (const Step& step : steps) {
    const bool computes = std::string(step.name).find("run") != std::string::npos ||
                          std::string(step.name).find("attention") != std::string::npos;
    const auto calls = probe<CallsOf>("__cudaVgpuCalls");
    const unsigned long long first = calls(nullptr);
    (void)fail_call(happened ? 0 : left);
    qkv_status status = step.run();
    const unsigned long long made = calls(nullptr) - first;
    const bool failed = fail_call(0) != 0;
    if (failed) {
      happened = true;
      passed_over = passes_over && status == QKV_SUCCESS;
      expect(passed_over || status != QKV_SUCCESS, step.name, "the failure is not reported");
      expect(passed_over || !step.has_message || *qkv_last_error() != '\0', step.name,
             "no message");
      expect(passed_over || qkv_status_class(status) == QKV_DEVICE_ERROR ||
                 qkv_status_class(status) == QKV_RESOURCE,
             step.name, qkv_status_name(status));
      if (!passed_over) status = step.run();  // the same once more
    } else {
      left -= std::min(left, made);
    }
    expect(status == QKV_SUCCESS, step.name,
           failed ? "does not work after the failure" : "fails without a failure");
    expect(cudaGetLastError() == cudaSuccess, step.name, "an error is left behind");
    int current = -1;
    CUDA(cudaGetDevice(&current));
    expect(current == 0, step.name, "the current device has changed");
    if (!computes) continue;
    CUDA(cudaSetDevice(device));
    results.push_back(p.result(nullptr));
    p.upload(p.inputs(), nullptr);  // poisons the outputs
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaSetDevice(0));
    expect(passes_over ? distance_to_cpu(p.kind(), p.inputs(), results.back()) < kCloseEnough
                       : results.back() == results.front(),
           step.name, "other bits");
  }
  qkv_plan_destroy(plan);
  expect(distance_to_cpu(p.kind(), p.inputs(), results.front()) < kCloseEnough, "all",
         "not the CPU's result");
  expect(free_bytes() == before, "all", "device memory leaks");
  return wrong != 0 ? 1 : passed_over ? 3 : happened ? 0 : 2;
}

// Forks before anything calls CUDA: every child starts afresh. Counts the failures that a step has
// got over.
void fail_every_call(cudaError_t error, int* passed_over) {
  for (int device = 0; device < 2; ++device) {
    unsigned long long n = 1;
    for (bool more = true; more; ++n) {
      ASSERT_LT(n, 1000u);
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        int result = 1;
        try {
          result = with_failing_call(n, device, error);
        } catch (const std::exception& e) {
          std::fprintf(stderr, "call %llu fails: %s\n", n, e.what());
        }
        std::fflush(stderr);
        _exit(result);
      }
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFEXITED(status)) << "call " << n << ": signal " << WTERMSIG(status);
      EXPECT_NE(WEXITSTATUS(status), 1) << "call " << n << ", device " << device;
      more = WEXITSTATUS(status) != 2;
      if (WEXITSTATUS(status) == 3) ++*passed_over;
    }
    EXPECT_GT(n, 10u) << "qkv makes more runtime calls than this";
    testing::Test::RecordProperty(device == 0 ? "calls_on_device_0" : "calls_on_device_1",
                                  static_cast<int>(n - 2));
  }
}

TEST(T17_FailingCalls, EveryOneIsAStatusAndTheNextCallWorks) {
  if (!on_virtual_gpu()) GTEST_SKIP() << "needs the virtual GPU";
  int passed_over = 0;
  fail_every_call(cudaSuccess, &passed_over);
  EXPECT_EQ(passed_over, 0);
}

// Where CUDA says that a kernel is not for this device: a status, or another kernel's result.
TEST(T17_FailingCalls, AKernelThatDoesNotLoadIsPassedOver) {
  if (!on_virtual_gpu()) GTEST_SKIP() << "needs the virtual GPU";
  int passed_over = 0;
  fail_every_call(cudaErrorNoKernelImageForDevice, &passed_over);
  EXPECT_GE(passed_over, 2 * 2) << "when the plan is made, and in the first call; on two devices";
}

// --- T18: graphs

class T18_Graphs : public Gpu {
 protected:
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

  // Captures what `body` puts into the stream, under the strictest mode.
  template <class Body>
  static cudaGraphExec_t capture(cudaStream_t stream, size_t want_nodes, Body&& body) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    const unsigned long long before = forbidden_calls();
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    body();
    EXPECT_EQ(forbidden_calls(), before) << "allocations and synchronisations";
    CUDA(cudaStreamEndCapture(stream, &graph));
    size_t count = 0;
    CUDA(cudaGraphGetNodes(graph, nullptr, &count));
    EXPECT_EQ(count, want_nodes);
    std::vector<cudaGraphNode_t> nodes(count);
    CUDA(cudaGraphGetNodes(graph, nodes.data(), &count));
    for (cudaGraphNode_t node : nodes) {
      cudaGraphNodeType type;
      CUDA(cudaGraphNodeGetType(node, &type));
      EXPECT_EQ(type, cudaGraphNodeTypeKernel);
    }
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
        const Inputs inputs(kKinds[k], static_cast<uint64_t>(1000 + i));
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
      GTEST_SKIP() << "no kernel of this device splits";
    }
    const Buffer workspace(bytes);
    d.workspace = workspace.data();
    d.workspace_size = bytes;
    const cudaGraphExec_t graph = capture(streams[0], 2, [&] {
      EXPECT_EQ(qkv_plan_run(plan, &d, streams[0]), QKV_SUCCESS) << qkv_last_error();
    });
    for (uint64_t i = 0; i < 3; ++i) {
      const Inputs inputs(kind, 2000 + i);
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
