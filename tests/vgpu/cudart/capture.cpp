// Capture of streams into graphs, and what it forbids. CUDA runtime API 13.0, sections 6.4
// and 6.30.
//
// A capture belongs to the streams that take part in it, not to the process: other streams work on.
// It forbids three kinds of calls, and a forbidden call breaks it:
//  - those that are "potentially unsafe" (allocation, synchronous copies): to the thread that began
//    it, unless relaxed; to the other threads too, if global. A thread may exempt itself;
//  - asking after a captured stream, or after all streams of its device: to everyone;
//  - the default stream, while a stream that synchronises with it is captured: to everyone.
#include "cudart/api.h"

namespace vgpu {
namespace {

thread_local cudaStreamCaptureMode t_mode = cudaStreamCaptureModeGlobal;

// Breaks every capture for which `forbids` holds; `error` if there is one.
template <class F>
cudaError_t forbid(Runtime& r, cudaError_t error, F&& forbids) {
  cudaError_t result = cudaSuccess;
  for (auto& g : r.graphs) {
    if (!g->capture || !forbids(*g)) continue;
    g->capture->broken = true;
    result = error;
  }
  return result;
}

bool takes_part(const Runtime& r, const GraphState& g, int device, bool blocking_only) {
  for (const auto& s : r.streams) {
    if (s->capture != &g || s->device != device) continue;
    if (!blocking_only || (s->flags & cudaStreamNonBlocking) == 0) return true;
  }
  return false;
}

}  // namespace

cudaError_t Runtime::capture_forbids_unsafe() {
  if (t_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  return forbid(*this, cudaErrorStreamCaptureUnsupported, [](const GraphState& g) {
    if (g.capture->thread == std::this_thread::get_id())
      return g.capture->mode != cudaStreamCaptureModeRelaxed;
    return t_mode == cudaStreamCaptureModeGlobal && g.capture->mode == cudaStreamCaptureModeGlobal;
  });
}
cudaError_t Runtime::capture_forbids_waiting(int device) {
  return forbid(*this, cudaErrorStreamCaptureUnsupported,
                [&](const GraphState& g) { return takes_part(*this, g, device, false); });
}
cudaError_t Runtime::capture_forbids_legacy(int device) {
  return forbid(*this, cudaErrorStreamCaptureImplicit,
                [&](const GraphState& g) { return takes_part(*this, g, device, true); });
}

}  // namespace vgpu

using namespace vgpu;

VGPU_EXPORT cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return api("cudaStreamBeginCapture", [&] {
    StreamState* s = rt().stream(handle);
    if (s == nullptr) return cudaErrorInvalidResourceHandle;
    if (s->is_default) return cudaErrorStreamCaptureUnsupported;
    if (s->capture != nullptr) return cudaErrorIllegalState;
    rt().graphs.push_back(std::make_unique<GraphState>());
    s->capture = rt().graphs.back().get();
    s->captured.clear();
    s->capture->capture =
        std::make_unique<Capture>(Capture{s, mode, std::this_thread::get_id(), false});
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* out) {
  return api("cudaStreamEndCapture", [&] {
    Runtime& r = rt();
    StreamState* s = r.stream(handle);
    if (s == nullptr) return cudaErrorInvalidResourceHandle;
    if (s->capture == nullptr) return cudaErrorIllegalState;
    GraphState* g = s->capture;
    const Capture capture = *g->capture;
    if (capture.origin != s) return cudaErrorStreamCaptureUnmatched;
    if (capture.mode != cudaStreamCaptureModeRelaxed &&
        capture.thread != std::this_thread::get_id())
      return cudaErrorStreamCaptureWrongThread;
    // Work of other streams that the origin has not waited for is lost at the end.
    bool joined = true;
    for (auto& other : r.streams) {
      if (other->capture != g) continue;
      joined = joined && other->captured[other.get()] <= s->captured[other.get()];
    }
    for (auto& other : r.streams) {
      if (other->capture != g) continue;
      other->capture = nullptr;
      other->captured.clear();
    }
    for (auto& e : r.events)
      if (e->capture == g) e->capture = nullptr;
    g->capture.reset();
    const bool good = joined && !capture.broken;
    *out = good ? reinterpret_cast<cudaGraph_t>(g) : nullptr;
    if (!good) std::erase_if(r.graphs, [g](const auto& p) { return p.get() == g; });
    return capture.broken ? cudaErrorStreamCaptureInvalidated
           : joined       ? cudaSuccess
                          : cudaErrorStreamCaptureUnjoined;
  });
}
VGPU_EXPORT cudaError_t cudaStreamIsCapturing(cudaStream_t handle,
                                              cudaStreamCaptureStatus* status) {
  return api("cudaStreamIsCapturing", [&] {
    const StreamState* s = rt().stream(handle);
    if (s == nullptr) return cudaErrorInvalidResourceHandle;
    *status = s->capture == nullptr         ? cudaStreamCaptureStatusNone
              : s->capture->capture->broken ? cudaStreamCaptureStatusInvalidated
                                            : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}
// CUDA 12 has no edges in it.
#if CUDART_VERSION >= 13000
VGPU_EXPORT cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle,
                                                 cudaStreamCaptureStatus* status,
                                                 unsigned long long* id, cudaGraph_t* graph,
                                                 const cudaGraphNode_t** dependencies,
                                                 const cudaGraphEdgeData** edges, size_t* count) {
  if (edges != nullptr) *edges = nullptr;
#else
VGPU_EXPORT cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle,
                                                 cudaStreamCaptureStatus* status,
                                                 unsigned long long* id, cudaGraph_t* graph,
                                                 const cudaGraphNode_t** dependencies,
                                                 size_t* count) {
#endif
  const cudaError_t e = cudaStreamIsCapturing(handle, status);
  if (e != cudaSuccess) return e;
  const StreamState* s = rt().stream(handle);
  if (id != nullptr) *id = reinterpret_cast<unsigned long long>(s->capture);
  if (graph != nullptr) *graph = reinterpret_cast<cudaGraph_t>(s->capture);
  if (dependencies != nullptr) *dependencies = nullptr;
  if (count != nullptr) *count = 0;
  return cudaSuccess;
}
VGPU_EXPORT cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return api("cudaThreadExchangeStreamCaptureMode", [&] {
    std::swap(t_mode, *mode);
    return cudaSuccess;
  });
}
