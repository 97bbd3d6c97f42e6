// Streams and events.
#include <algorithm>

#include "cudart/api.h"

using namespace vgpu;

namespace {

EventState* event_of(cudaEvent_t handle) {
  for (auto& e : rt().events)
    if (e.get() == reinterpret_cast<EventState*>(handle)) return e.get();
  return nullptr;
}
StreamState* with_stream(cudaStream_t handle, cudaError_t& error) {
  StreamState* s = rt().stream(handle);
  error = s == nullptr ? cudaErrorInvalidResourceHandle : cudaSuccess;
  return s;
}

cudaError_t create(cudaStream_t* out, unsigned flags, int priority) {
  if (out == nullptr) return cudaErrorInvalidValue;
  *out = reinterpret_cast<cudaStream_t>(rt().new_stream(flags, priority));
  return cudaSuccess;
}

// Nobody may ask after a stream that is captured, nor after the default stream beside it.
cudaError_t not_captured(const StreamState* s) {
  if (s->is_default) return rt().capture_forbids_legacy(s->device);
  if (s->capture == nullptr) return cudaSuccess;
  s->capture->capture->broken = true;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t record(EventState* e, cudaStream_t handle) {
  cudaError_t error;
  StreamState* s = with_stream(handle, error);
  if (s == nullptr || e == nullptr) return cudaErrorInvalidResourceHandle;
  e->capture = s->capture;
  if (s->capture != nullptr) {  // it only marks a place in the graph
    e->captured = s->captured;
    return cudaSuccess;
  }
  e->recorded = true;
  e->done = false;
  e->stream = s;
  const u64 version = ++e->version;
  return rt().enqueue(s, cudaGraphNodeTypeEventRecord, [e, version] {
    if (e->version == version) {
      e->done = true;
      e->time = rt().now();
    }
    return cudaSuccess;
  });
}

cudaError_t wait(StreamState* s, EventState* e) {
  if (s == nullptr || e == nullptr) return cudaErrorInvalidResourceHandle;
  if (e->capture != nullptr) {
    // Waiting for a captured event makes this stream part of the capture.
    auto* graph = static_cast<GraphState*>(e->capture);
    if (s->capture != nullptr && s->capture != graph) return cudaErrorStreamCaptureMerge;
    s->capture = graph;
    for (const auto& [stream, count] : e->captured)
      s->captured[stream] = std::max(s->captured[stream], count);
    return cudaSuccess;
  }
  if (s->capture != nullptr) return e->recorded ? cudaErrorStreamCaptureIsolation : cudaSuccess;
  if (e->done) return cudaSuccess;
  s->queue.push_back({nullptr, e, e->version});
  return cudaSuccess;
}

cudaError_t reach(EventState* e) {
  if (e->done) return cudaSuccess;
  for (auto& s : rt().streams)
    if (s.get() == e->stream) return rt().drain(s.get());
  return cudaSuccess;
}

}  // namespace

VGPU_EXPORT cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return api("cudaStreamCreate", [&] { return create(stream, 0, 0); });
}
VGPU_EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return api("cudaStreamCreateWithFlags", [&] { return create(stream, flags, 0); });
}
VGPU_EXPORT cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags,
                                                     int priority) {
  return api("cudaStreamCreateWithPriority", [&] { return create(stream, flags, priority); });
}
VGPU_EXPORT cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return api("cudaStreamDestroy", [&] {
    cudaError_t error;
    StreamState* s = with_stream(handle, error);
    if (s == nullptr || s->is_default) return cudaErrorInvalidResourceHandle;
    error = rt().drain(s);  // destroyed streams finish their work
    s->destroyed = true;
    return error;
  });
}
VGPU_EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return api("cudaStreamSynchronize", [&] {
    cudaError_t error;
    StreamState* s = with_stream(handle, error);
    if (s == nullptr) return error;
    if (error = not_captured(s); error != cudaSuccess) return error;
    return rt().drain(s);
  });
}
VGPU_EXPORT cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return api("cudaStreamQuery", [&] {
    cudaError_t error;
    StreamState* s = with_stream(handle, error);
    if (s == nullptr) return error;
    if (error = not_captured(s); error != cudaSuccess) return error;
    if (s->queue.empty()) return cudaSuccess;
    error = rt().drain(s);  // the next question finds it done
    return error == cudaSuccess ? cudaErrorNotReady : error;
  });
}
VGPU_EXPORT cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
  return api("cudaStreamGetFlags", [&] {
    cudaError_t error;
    const StreamState* s = with_stream(handle, error);
    if (s != nullptr) *flags = s->flags;
    return error;
  });
}
VGPU_EXPORT cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  return api("cudaStreamGetPriority", [&] {
    cudaError_t error;
    const StreamState* s = with_stream(handle, error);
    if (s != nullptr) *priority = s->priority;
    return error;
  });
}
VGPU_EXPORT cudaError_t cudaStreamGetId(cudaStream_t handle, unsigned long long* id) {
  return api("cudaStreamGetId", [&] {
    cudaError_t error;
    const StreamState* s = with_stream(handle, error);
    if (s != nullptr) *id = s->id;
    return error;
  });
}
VGPU_EXPORT cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  return api("cudaStreamGetDevice", [&] {
    cudaError_t error;
    const StreamState* s = with_stream(handle, error);
    if (s != nullptr) *device = s->device;
    return error;
  });
}
VGPU_EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  return api("cudaStreamWaitEvent", [&] { return wait(rt().stream(handle), event_of(event)); });
}
VGPU_EXPORT cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return api("cudaLaunchHostFunc", [&] {
    return rt().enqueue(rt().stream(handle), cudaGraphNodeTypeHost, [=] {
      function(data);
      return cudaSuccess;
    });
  });
}
VGPU_EXPORT cudaError_t cudaStreamAddCallback(cudaStream_t handle, cudaStreamCallback_t callback,
                                              void* data, unsigned) {
  return api("cudaStreamAddCallback", [&] {
    return rt().enqueue(rt().stream(handle), cudaGraphNodeTypeHost, [=] {
      callback(handle, cudaSuccess, data);
      return cudaSuccess;
    });
  });
}
VGPU_EXPORT cudaError_t cudaStreamAttachMemAsync(cudaStream_t, void*, size_t, unsigned) {
  return api("cudaStreamAttachMemAsync", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaStreamSetAttribute(cudaStream_t, cudaStreamAttrID,
                                               const cudaStreamAttrValue*) {
  return api("cudaStreamSetAttribute", [] { return cudaSuccess; });
}
VGPU_EXPORT cudaError_t cudaCtxResetPersistingL2Cache() {
  return api("cudaCtxResetPersistingL2Cache", [] { return cudaSuccess; });
}

VGPU_EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return api("cudaEventCreateWithFlags", [&] {
    if (event == nullptr) return cudaErrorInvalidValue;
    rt().events.push_back(std::make_unique<EventState>());
    rt().events.back()->flags = flags;
    *event = reinterpret_cast<cudaEvent_t>(rt().events.back().get());
    return cudaSuccess;
  });
}
VGPU_EXPORT cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, 0);
}
VGPU_EXPORT cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  return api("cudaEventDestroy", [&] {
    EventState* e = event_of(handle);
    if (e == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t error = reach(e);  // queued work may still name it
    for (auto& s : rt().streams)
      for (Work& w : s->queue)
        if (w.wait_for == e) w.wait_for = nullptr;
    std::erase_if(rt().events, [e](const auto& p) { return p.get() == e; });
    return error;
  });
}
VGPU_EXPORT cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return api("cudaEventRecord", [&] { return record(event_of(event), stream); });
}
VGPU_EXPORT cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return api("cudaEventRecordWithFlags", [&] { return record(event_of(event), stream); });
}
VGPU_EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return api("cudaEventSynchronize", [&] {
    EventState* e = event_of(handle);
    if (e == nullptr) return cudaErrorInvalidResourceHandle;
    if (e->capture != nullptr) return cudaErrorCapturedEvent;
    return reach(e);
  });
}
VGPU_EXPORT cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return api("cudaEventQuery", [&] {
    EventState* e = event_of(handle);
    if (e == nullptr) return cudaErrorInvalidResourceHandle;
    if (e->done) return cudaSuccess;
    const cudaError_t error = reach(e);
    return error == cudaSuccess ? cudaErrorNotReady : error;
  });
}
VGPU_EXPORT cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  return api("cudaEventElapsedTime", [&] {
    EventState *a = event_of(start), *b = event_of(end);
    if (a == nullptr || b == nullptr || !a->recorded || !b->recorded)
      return cudaErrorInvalidResourceHandle;
    if (!a->done || !b->done) return cudaErrorNotReady;
    *ms = static_cast<float>((b->time - a->time) * 1e3);
    return cudaSuccess;
  });
}
