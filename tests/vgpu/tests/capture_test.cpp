// Stream capture: what belongs to which graph, and which calls a capture forbids to whom. CUDA
// runtime API 13.0: cudaStreamBeginCapture, cudaThreadExchangeStreamCaptureMode; programming guide,
// "Prohibited and unhandled operations".
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/runtime_kernels.h"

namespace vgpu::test {
namespace {

#define CHECK_CUDA(call) ASSERT_EQ(cudaSuccess, (call)) << cudaGetErrorString(cudaGetLastError())

constexpr cudaStreamCaptureMode kModes[] = {
    cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed};

class Capture : public testing::Test {
 protected:
  void SetUp() override {
    for (cudaStream_t& s : streams)
      ASSERT_EQ(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&data), 256), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&other_event, cudaEventDisableTiming), cudaSuccess);
    set(1);
  }
  void TearDown() override {
    (void)cudaGetLastError();
    EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(other_event), cudaSuccess);
    EXPECT_EQ(cudaFree(data), cudaSuccess);
    for (cudaStream_t s : streams) EXPECT_EQ(cudaStreamDestroy(s), cudaSuccess);
  }
  void set(float value) {
    const std::vector<float> v(64, value);
    ASSERT_EQ(cudaMemcpy(data, v.data(), 256, cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<float> get() {
    std::vector<float> v(64);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(v.data(), data, 256, cudaMemcpyDeviceToHost), cudaSuccess);
    return v;
  }
  static std::vector<float> all(float value) { return std::vector<float>(64, value); }
  static cudaStreamCaptureStatus status(cudaStream_t s) {
    cudaStreamCaptureStatus out;
    EXPECT_EQ(cudaStreamIsCapturing(s, &out), cudaSuccess);
    return out;
  }
  static size_t nodes(cudaGraph_t graph) {
    size_t count = 0;
    EXPECT_EQ(cudaGraphGetNodes(graph, nullptr, &count), cudaSuccess);
    return count;
  }
  static void replay(cudaGraph_t graph, cudaStream_t s) {
    cudaGraphExec_t exec = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(exec, s), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(s), cudaSuccess);
    ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
    ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
  // What the call gives in another thread, which may exempt itself first.
  template <class Call>
  static cudaError_t elsewhere(cudaStreamCaptureMode mode, Call&& call) {
    cudaError_t result = cudaSuccess;
    std::thread([&] {
      EXPECT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
      EXPECT_EQ(mode, cudaStreamCaptureModeGlobal) << "a thread's mode before";
      result = call();
    }).join();
    return result;
  }
  static cudaError_t allocate_and_free() {
    void* p = nullptr;
    const cudaError_t e = cudaMalloc(&p, 16);
    return e == cudaSuccess ? cudaFree(p) : e;
  }

  cudaStream_t streams[3] = {};
  float* data = nullptr;
  cudaEvent_t event = nullptr, other_event = nullptr;
};

TEST_F(Capture, OtherStreamsWorkOn) {
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeGlobal));
  EXPECT_EQ(status(streams[0]), cudaStreamCaptureStatusActive);
  EXPECT_EQ(status(streams[1]), cudaStreamCaptureStatusNone);
  launch_scale(data, 2, 64, streams[0]);
  launch_scale(data, 3, 64, streams[1]);
  CHECK_CUDA(cudaStreamSynchronize(streams[1]));
  launch_scale(data, 5, 64, nullptr);  // no captured stream synchronises with the default stream
  CHECK_CUDA(cudaStreamSynchronize(nullptr));
  CHECK_CUDA(cudaStreamEndCapture(streams[0], &graph));
  EXPECT_EQ(nodes(graph), 1u);
  EXPECT_EQ(get(), all(15));
  replay(graph, streams[0]);
  EXPECT_EQ(get(), all(30));
}

TEST_F(Capture, TwoAtOnce) {
  cudaGraph_t graphs[2] = {};
  for (int i = 0; i < 2; ++i)
    CHECK_CUDA(cudaStreamBeginCapture(streams[i], cudaStreamCaptureModeThreadLocal));
  EXPECT_EQ(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
  launch_scale(data, 2, 64, streams[0]);
  launch_scale(data, 3, 64, streams[1]);
  launch_scale(data, 5, 64, streams[1]);
  for (int i = 0; i < 2; ++i) CHECK_CUDA(cudaStreamEndCapture(streams[i], &graphs[i]));
  EXPECT_EQ(nodes(graphs[0]), 1u);
  EXPECT_EQ(nodes(graphs[1]), 2u);
  replay(graphs[1], streams[0]);
  EXPECT_EQ(get(), all(15));
  replay(graphs[0], streams[0]);
  EXPECT_EQ(get(), all(30));
}

// The table of the runtime API: who may allocate while a stream is captured.
TEST_F(Capture, UnsafeCallsByModeAndThread) {
  for (const cudaStreamCaptureMode mode : kModes) {
    for (const bool same_thread : {true, false}) {
      for (const cudaStreamCaptureMode thread_mode : kModes) {
        const bool forbidden = same_thread ? mode != cudaStreamCaptureModeRelaxed &&
                                                 thread_mode != cudaStreamCaptureModeRelaxed
                                           : mode == cudaStreamCaptureModeGlobal &&
                                                 thread_mode == cudaStreamCaptureModeGlobal;
        SCOPED_TRACE(testing::Message() << "capture mode " << mode << ", same thread "
                                        << same_thread << ", thread's mode " << thread_mode);
        cudaGraph_t graph = nullptr;
        CHECK_CUDA(cudaStreamBeginCapture(streams[0], mode));
        cudaError_t result;
        if (same_thread) {
          cudaStreamCaptureMode exchanged = thread_mode;
          CHECK_CUDA(cudaThreadExchangeStreamCaptureMode(&exchanged));
          result = allocate_and_free();
          CHECK_CUDA(cudaThreadExchangeStreamCaptureMode(&exchanged));
          EXPECT_EQ(exchanged, thread_mode);
        } else {
          result = elsewhere(thread_mode, allocate_and_free);
        }
        EXPECT_EQ(result, forbidden ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
        (void)cudaGetLastError();
        EXPECT_EQ(status(streams[0]),
                  forbidden ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive);
        EXPECT_EQ(cudaStreamEndCapture(streams[0], &graph),
                  forbidden ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
        EXPECT_EQ(graph == nullptr, forbidden);
        if (graph != nullptr) {
          CHECK_CUDA(cudaGraphDestroy(graph));
        }
        (void)cudaGetLastError();
        EXPECT_EQ(status(streams[0]), cudaStreamCaptureStatusNone);
      }
    }
  }
}

TEST_F(Capture, NobodyMayAskAfterACapturedStream) {
  const auto query_device = [](cudaStream_t) { return cudaDeviceSynchronize(); };
  for (auto* ask : {+[](cudaStream_t s) { return cudaStreamSynchronize(s); },
                    +[](cudaStream_t s) { return cudaStreamQuery(s); }, +query_device}) {
    for (const cudaStreamCaptureMode mode : kModes) {
      cudaGraph_t graph = nullptr;
      CHECK_CUDA(cudaStreamBeginCapture(streams[0], mode));
      EXPECT_EQ(ask(streams[0]), cudaErrorStreamCaptureUnsupported);
      (void)cudaGetLastError();
      launch_scale(data, 2, 64, streams[0]);
      EXPECT_EQ(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
      EXPECT_EQ(cudaStreamEndCapture(streams[0], &graph), cudaErrorStreamCaptureInvalidated);
      (void)cudaGetLastError();
    }
  }
  EXPECT_EQ(get(), all(1));
}

TEST_F(Capture, TheDefaultStreamBesideABlockingOne) {
  cudaStream_t blocking;
  CHECK_CUDA(cudaStreamCreate(&blocking));
  for (const bool copy : {false, true}) {
    cudaGraph_t graph = nullptr;
    CHECK_CUDA(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeThreadLocal));
    if (copy) {
      float x;
      EXPECT_EQ(cudaMemcpy(&x, data, 4, cudaMemcpyDeviceToHost), cudaErrorStreamCaptureImplicit);
    } else {
      launch_scale(data, 2, 64, nullptr);
      EXPECT_EQ(cudaGetLastError(), cudaErrorStreamCaptureImplicit);
    }
    (void)cudaGetLastError();
    EXPECT_EQ(cudaStreamEndCapture(blocking, &graph), cudaErrorStreamCaptureInvalidated);
    (void)cudaGetLastError();
  }
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed),
            cudaErrorStreamCaptureUnsupported);
  CHECK_CUDA(cudaStreamDestroy(blocking));
  EXPECT_EQ(get(), all(1));
}

TEST_F(Capture, ItsThreadEndsIt) {
  for (const cudaStreamCaptureMode mode : kModes) {
    cudaGraph_t graph = nullptr;
    CHECK_CUDA(cudaStreamBeginCapture(streams[0], mode));
    const cudaError_t e = elsewhere(cudaStreamCaptureModeGlobal,
                                    [&] { return cudaStreamEndCapture(streams[0], &graph); });
    if (mode == cudaStreamCaptureModeRelaxed) {
      EXPECT_EQ(e, cudaSuccess);
    } else {
      EXPECT_EQ(e, cudaErrorStreamCaptureWrongThread);
      CHECK_CUDA(cudaStreamEndCapture(streams[0], &graph));
    }
    CHECK_CUDA(cudaGraphDestroy(graph));
  }
}

// first captures, second takes part from the wait on: joined in time, or lost.
TEST_F(Capture, ForkedStreamsMustJoin) {
  for (const bool join : {true, false}) {
    cudaGraph_t graph = nullptr;
    CHECK_CUDA(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeGlobal));
    launch_scale(data, 2, 64, streams[0]);
    CHECK_CUDA(cudaEventRecord(event, streams[0]));
    CHECK_CUDA(cudaStreamWaitEvent(streams[1], event, 0));
    EXPECT_EQ(status(streams[1]), cudaStreamCaptureStatusActive);
    launch_scale(data, 3, 64, streams[1]);
    CHECK_CUDA(cudaEventRecord(other_event, streams[1]));
    if (!join) launch_scale(data, 5, 64, streams[1]);  // after the event
    CHECK_CUDA(cudaStreamWaitEvent(streams[0], other_event, 0));
    EXPECT_EQ(cudaStreamEndCapture(streams[1], &graph), cudaErrorStreamCaptureUnmatched);
    (void)cudaGetLastError();
    EXPECT_EQ(cudaStreamEndCapture(streams[0], &graph),
              join ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
    (void)cudaGetLastError();
    EXPECT_EQ(status(streams[1]), cudaStreamCaptureStatusNone);
    if (!join) continue;
    EXPECT_EQ(nodes(graph), 2u);
    replay(graph, streams[2]);
    EXPECT_EQ(get(), all(6));
  }
}

TEST_F(Capture, EventsDoNotCrossItsBorder) {
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaEventRecord(event, streams[1]));
  CHECK_CUDA(cudaStreamBeginCapture(streams[0], cudaStreamCaptureModeGlobal));
  EXPECT_EQ(cudaStreamWaitEvent(streams[0], event, 0), cudaErrorStreamCaptureIsolation);
  (void)cudaGetLastError();
  CHECK_CUDA(cudaEventRecord(other_event, streams[0]));
  EXPECT_EQ(cudaEventSynchronize(other_event), cudaErrorCapturedEvent);
  (void)cudaGetLastError();
  CHECK_CUDA(cudaStreamBeginCapture(streams[2], cudaStreamCaptureModeGlobal));
  EXPECT_EQ(cudaStreamWaitEvent(streams[2], other_event, 0), cudaErrorStreamCaptureMerge);
  (void)cudaGetLastError();
  for (const int i : {0, 2}) {
    (void)cudaStreamEndCapture(streams[i], &graph);
    if (graph != nullptr) {
      CHECK_CUDA(cudaGraphDestroy(graph));
    }
  }
}

// --- several devices: vgpu-run --gpus N

class Devices : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
    if (count < 2) GTEST_SKIP() << "needs several devices";
  }
  void TearDown() override { (void)cudaSetDevice(0); }
  int count = 0;
};

TEST_F(Devices, AreDistinct) {
  for (int device = 0; device < count; ++device) {
    CHECK_CUDA(cudaSetDevice(device));
    int current = -1;
    CHECK_CUDA(cudaGetDevice(&current));
    EXPECT_EQ(current, device);
    size_t before = 0, after = 0, elsewhere_before = 0, elsewhere_after = 0, total = 0;
    CHECK_CUDA(cudaSetDevice((device + 1) % count));
    CHECK_CUDA(cudaMemGetInfo(&elsewhere_before, &total));
    CHECK_CUDA(cudaSetDevice(device));
    CHECK_CUDA(cudaMemGetInfo(&before, &total));
    float* p = nullptr;
    CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&p), 4096));
    CHECK_CUDA(cudaMemGetInfo(&after, &total));
    EXPECT_LT(after, before);
    CHECK_CUDA(cudaSetDevice((device + 1) % count));
    CHECK_CUDA(cudaMemGetInfo(&elsewhere_after, &total));
    EXPECT_EQ(elsewhere_after, elsewhere_before);
    cudaPointerAttributes a;
    CHECK_CUDA(cudaPointerGetAttributes(&a, p));
    EXPECT_EQ(a.device, device);
    CHECK_CUDA(cudaFree(p));
  }
  EXPECT_EQ(cudaSetDevice(count), cudaErrorInvalidDevice);
  (void)cudaGetLastError();
  std::thread([] {
    int current = -1;
    EXPECT_EQ(cudaGetDevice(&current), cudaSuccess);
    EXPECT_EQ(current, 0) << "a thread begins on device 0";
  }).join();
}

TEST_F(Devices, StreamsAndVariablesBelongToOne) {
  cudaStream_t second_stream;
  CHECK_CUDA(cudaSetDevice(1));
  CHECK_CUDA(cudaStreamCreate(&second_stream));
  float* p = nullptr;
  CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&p), 256));
  CHECK_CUDA(cudaMemset(p, 0, 256));
  CHECK_CUDA(cudaSetDevice(0));
  launch_scale(p, 2, 64, second_stream);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidResourceHandle);
  CHECK_CUDA(cudaSetDevice(1));
  launch_scale(p, 2, 64, second_stream);
  CHECK_CUDA(cudaStreamSynchronize(second_stream));
  // A constant has a value on each device.
  float* out = p;
  for (int device = 0; device < 2; ++device) {
    CHECK_CUDA(cudaSetDevice(device));
    const float values[4] = {1.0f + static_cast<float>(device), 2, 3, 4};
    CHECK_CUDA(
        cudaMemcpyToSymbol(table_symbol(), values, sizeof values, 0, cudaMemcpyHostToDevice));
  }
  launch_constant(out, nullptr);
  float got[4];
  CHECK_CUDA(cudaMemcpy(got, out, sizeof got, cudaMemcpyDeviceToHost));
  EXPECT_EQ(got[0], 2.0f);
  void *first = nullptr, *second = nullptr;
  CHECK_CUDA(cudaGetSymbolAddress(&second, table_symbol()));
  CHECK_CUDA(cudaSetDevice(0));
  CHECK_CUDA(cudaGetSymbolAddress(&first, table_symbol()));
  EXPECT_NE(first, second);
  CHECK_CUDA(cudaMemcpyFromSymbol(got, table_symbol(), sizeof got, 0, cudaMemcpyDeviceToHost));
  EXPECT_EQ(got[0], 1.0f);
  CHECK_CUDA(cudaFree(p));
  CHECK_CUDA(cudaStreamDestroy(second_stream));
}

TEST_F(Devices, PeersUseEachOthersMemory) {
  int can = 0;
  CHECK_CUDA(cudaDeviceCanAccessPeer(&can, 0, 1));
  if (can == 0) GTEST_SKIP() << "devices 0 and 1 cannot be peers";
  float* theirs = nullptr;
  CHECK_CUDA(cudaSetDevice(1));
  CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&theirs), 256));
  const std::vector<float> ones(64, 1.0f);
  CHECK_CUDA(cudaMemcpy(theirs, ones.data(), 256, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaSetDevice(0));
  CHECK_CUDA(cudaDeviceEnablePeerAccess(1, 0));
  EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaErrorPeerAccessAlreadyEnabled);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaErrorInvalidDevice);
  (void)cudaGetLastError();
  launch_scale(theirs, 3, 64, nullptr);
  CHECK_CUDA(cudaDeviceSynchronize());
  float* ours = nullptr;
  CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&ours), 256));
  CHECK_CUDA(cudaMemcpyPeer(ours, 0, theirs, 1, 256));
  std::vector<float> got(64);
  CHECK_CUDA(cudaMemcpy(got.data(), ours, 256, cudaMemcpyDeviceToHost));
  EXPECT_EQ(got, std::vector<float>(64, 3.0f));
  CHECK_CUDA(cudaDeviceDisablePeerAccess(1));
  EXPECT_EQ(cudaDeviceDisablePeerAccess(1), cudaErrorPeerAccessNotEnabled);
  (void)cudaGetLastError();
  CHECK_CUDA(cudaFree(ours));
  CHECK_CUDA(cudaFree(theirs));
}

// Only when asked for: nothing works after it.
TEST_F(Devices, DISABLED_StrangersDoNot) {
  float* theirs = nullptr;
  CHECK_CUDA(cudaSetDevice(1));
  CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&theirs), 256));
  CHECK_CUDA(cudaMemset(theirs, 0, 256));
  CHECK_CUDA(cudaSetDevice(0));
  launch_scale(theirs, 3, 64, nullptr);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
}

}  // namespace
}  // namespace vgpu::test
