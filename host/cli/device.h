// Where a problem runs, and running it there. The tensors are in host memory on either side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "qkv/qkv.h"

namespace qkv::cli {

struct DeviceChoice {
  qkv_device device = QKV_DEVICE_CPU;
  int32_t index = 0;
  std::string note;  // why auto did not take a GPU; may be empty
};

// `option` is auto, cpu, cuda or cuda:N. auto takes the first GPU if a kernel runs the problem
// there, else the CPU.
DeviceChoice choose_device(const std::string& option, const qkv_attention_desc& desc);
// The same for an operation that every GPU runs.
DeviceChoice choose_device(const std::string& option);

// Whether the option is one of auto, cpu, cuda and cuda:N.
bool is_of_this_machine(const std::string& option);

// The descriptor as a question: no addresses, hence of any device.
qkv_attention_desc without_addresses(qkv_attention_desc desc);

// A short problem runs a few times, since the first run also wakes the threads.
inline constexpr int kMostRuns = 5;
inline constexpr double kEnoughMilliseconds = 200;  // of all runs together

struct RunReport {
  std::string kernel;
  std::string device;                // "cpu, up to 2 threads" or "cuda:0, NVIDIA H100"
  std::vector<double> milliseconds;  // of each run, without plan and copies
  size_t workspace_bytes = 0;
};

// "1.25 ms (fastest of 5 runs, median 1.31 ms)". The fastest is what the machine can do; the median
// what a call takes as things are, which other programs make many times longer.
std::string time_text(const RunReport& report);

// A part of host memory that a descriptor points into.
struct Buffer {
  std::span<std::byte> bytes;
  bool output = false;
};

// One computation of the library on a device, whatever its operation.
class Job {
 public:
  Job() = default;
  virtual ~Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  // Refuses what no kernel runs, before anything is copied. Returns the kernel's name.
  virtual std::string check_support() = 0;
  // On a GPU: turns every tensor's address into that of its copy.
  using Move = std::function<void(qkv_tensor*)>;
  virtual void move(const Move& to_copy) = 0;
  // Makes ready what all runs share; returns the bytes of workspace that a run needs.
  virtual size_t prepare() = 0;
  virtual void run(void* workspace, size_t bytes) = 0;
  // Of the CPU; 0: as OpenMP says.
  virtual int32_t most_threads() const { return 0; }
};

// Computes. `buffers` hold all of the job's tensors; only a GPU needs them. Throws qkv::Error or
// Failure.
RunReport run(Job* job, const DeviceChoice& where, const std::vector<Buffer>& buffers,
              int most_runs = kMostRuns);
RunReport run(const qkv_attention_desc& desc, const DeviceChoice& where,
              const std::vector<Buffer>& buffers, int most_runs = kMostRuns);

// Computes once, with tensors that share no memory.
RunReport run_once(const qkv_attention_desc& desc, const DeviceChoice& where);

// Until most_runs, or kEnoughMilliseconds.
bool wants_another_run(const RunReport& report, int most_runs);

// The same as run() on CUDA device `index` (device_cuda.cpp).
RunReport run_on_cuda(Job* job, int32_t index, const std::vector<Buffer>& buffers, int most_runs);

}  // namespace qkv::cli
