// The state behind the stand-in CUDA runtime: modules, streams, events, graphs, errors.
//
// Invariants:
//  - Every entry point takes the one lock; kernels run inside it, on worker threads of their own.
//  - Work is done in stream order, at a moment that the seed chooses between the call and the
//    synchronisation that requires it. What a program may rely on is exactly what is guaranteed.
//  - After a device fault every call that uses the context returns the fault's error, until
//    cudaDeviceReset. It is the last error only until cudaGetLastError takes it, or until the next
//    such call: cudaPeekAtLastError alone does not say whether the device has faulted.
#pragma once

#include <cuda_runtime_api.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cudart/fatbin.h"
#include "machine/decoder.h"
#include "machine/launch.h"
#include "mutate/mutate.h"
#include "nlohmann/json_fwd.hpp"

namespace vgpu {

// One fat binary, and per device what it became.
struct LoadedModule {
  std::vector<PtxImage> images;
  const PtxImage* image = nullptr;  // chosen for the device
  std::shared_ptr<const ptx::Module> ast;
  struct Instance {
    std::unordered_map<std::string, Allocation*> variables;
    std::unordered_map<std::string, std::shared_ptr<Program>> programs;
  };
  std::vector<Instance> instances;  // per device
  // Managed variables are the same memory for the host and every device.
  std::unordered_map<std::string, Allocation*> managed;
  std::unordered_map<std::string, bool> managed_ready;  // initialised
  std::string failure;                                  // why the module cannot be used
};

struct Kernel {
  LoadedModule* module = nullptr;
  std::string name;
  int max_dynamic_shared = static_cast<int>(kStaticSharedLimit);
  int preferred_carveout = -1;
  bool large_clusters = false;  // more CTAs than every device allows
  std::string link_error;
};

struct HostVariable {
  LoadedModule* module = nullptr;
  std::string name;
  size_t size = 0;
};

// How many pieces of captured work of each stream.
using Progress = std::map<const struct StreamState*, u64>;

struct EventState {
  bool recorded = false;  // ever
  bool done = true;       // the last record has been reached
  u64 version = 0;
  double time = 0;
  void* stream = nullptr;   // where the last record was queued
  void* capture = nullptr;  // the graph whose capture it marks a place in
  Progress captured;        // and that place
  unsigned flags = 0;
};

struct Work {
  std::function<cudaError_t()> run;
  EventState* wait_for = nullptr;
  u64 wait_version = 0;
};

struct GraphNode {
  cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
  std::function<cudaError_t()> run;
  struct GraphState* owner = nullptr;
};
// A capture that is under way. Who began it and how decides which calls it forbids to whom.
struct Capture {
  struct StreamState* origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool broken = false;  // a forbidden call came between: only the end remains
};
struct GraphState {
  std::vector<std::unique_ptr<GraphNode>> nodes;  // in a valid order
  std::unique_ptr<Capture> capture;               // while streams are captured into it
};
struct GraphExecState {
  std::vector<std::function<cudaError_t()>> work;
  std::vector<const GraphNode*> nodes;  // that the work came from
};

struct StreamState {
  std::deque<Work> queue;
  int device = 0;
  unsigned flags = 0;
  int priority = 0;
  u64 id = 0;
  bool is_default = false;
  GraphState* capture = nullptr;  // being captured into
  Progress captured;              // of all streams, what precedes this one's next captured work
  bool destroyed = false;
  // Grids that a programmatically dependent launch need not have waited for: of the work that
  // executes now, and for what comes next.
  UnfinishedGrids before, unfinished;
};
// Attributes of a launch.
struct LaunchOptions {
  bool cooperative = false;
  bool programmatic = false;  // may overlap the grid before it
  dim3 cluster = {0, 0, 0};
};

class Runtime {
 public:
  static Runtime& get();

  std::recursive_mutex mutex;
  Machine machine;
  int device_count = 1;
  int driver_version = CUDART_VERSION;  // the newest CUDA that the driver runs, as 12020

  // Errors. `call` runs one entry point under the lock.
  cudaError_t call(const char* name, cudaError_t injected,
                   const std::function<cudaError_t()>& body);
  cudaError_t last_error(bool clear);
  cudaError_t sticky = cudaSuccess;
  // Whether a call of this thread has made a context current to it.
  bool has_context();
  void reset_device();

  // Modules.
  LoadedModule* add_module(const void* wrapper);
  void prepare(LoadedModule& module, int device);
  Kernel* find_kernel(const void* host_or_handle);
  std::shared_ptr<Program> program(Kernel& kernel, int device);  // throws
  Allocation* variable(const HostVariable& variable, int device);
  std::unordered_map<const void*, std::unique_ptr<Kernel>> kernels;
  std::unordered_map<const void*, HostVariable> variables;
  std::vector<std::unique_ptr<LoadedModule>> modules;

  // Streams. nullptr and the two special handles are the default streams.
  StreamState* stream(cudaStream_t handle);
  StreamState* new_stream(unsigned flags, int priority);
  cudaError_t enqueue(StreamState* s, cudaGraphNodeType type, std::function<cudaError_t()> run);
  cudaError_t drain(StreamState* s);
  cudaError_t drain_all(int only = -1);  // of one device, or all
  // Calls that a capture forbids, each with its error; they break the captures that forbid them.
  cudaError_t capture_forbids_unsafe();             // allocation and the like
  cudaError_t capture_forbids_waiting(int device);  // for all streams of a device
  cudaError_t capture_forbids_legacy(int device);   // use of the default stream
  std::vector<std::unique_ptr<StreamState>> streams;
  std::vector<std::unique_ptr<EventState>> events;
  std::vector<std::unique_ptr<GraphState>> graphs;
  std::vector<std::unique_ptr<GraphExecState>> graph_execs;

  // The dimensions of the kernel's clusters, by the launch (0: not given) or the kernel.
  cudaError_t cluster_dims(const Kernel& kernel, const Program& program, dim3 grid, dim3& cluster);
  cudaError_t launch(const void* function, dim3 grid, dim3 block, void** args, size_t shared,
                     cudaStream_t stream, LaunchOptions options = {});
  cudaError_t copy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                   cudaStream_t stream, bool asynchronous);
  cudaError_t copy_2d(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t width,
                      size_t height, cudaMemcpyKind kind, cudaStream_t stream, bool asynchronous);
  cudaError_t fill(void* dst, int value, size_t bytes, cudaStream_t stream, bool asynchronous);

  int device();
  void set_device(int device);
  void finish();  // at exit: drain, write reports
  u64 calls() const { return calls_; }
  u64 calls_of(const std::string& name) const;
  bool fail_call(u64 from_now);  // whether the one chosen before has failed
  cudaError_t fail_with = cudaSuccess;
  double now() const;

  // The host address of `bytes` at a device or host pointer, or nullptr. Sets `a` for device
  // memory.
  u8* host_view(const void* pointer, size_t bytes, Allocation*& a);

 private:
  Runtime();
  cudaError_t execute(Work& work);
  void append_to_report(const nlohmann::ordered_json& line) const;
  std::string with_plant(const std::string& text);  // of a module
  cudaError_t raw_copy(void* dst, const void* src, size_t bytes);

  u64 calls_ = 0;
  std::unordered_map<std::string, u64> calls_by_name_;
  u64 fail_call_ = 0;
  Random random_{0};
  bool reported_ = false;
  std::string report_path_, counts_path_, mutants_path_;
  Mutation mutation_;
  std::string plant_;
  u64 contexts_ = 1;  // the generation of contexts: a reset destroys them all
};

}  // namespace vgpu
