// Where a problem runs, and running it there. The tensors are in host memory on either side.
#pragma once

#include <cstddef>
#include <cstdint>
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

// The descriptor as a question: no addresses, hence of any device.
qkv_attention_desc without_addresses(qkv_attention_desc desc);

// A short problem runs a few times, since the first run also wakes the threads.
inline constexpr int kMostRuns = 5;
inline constexpr double kEnoughMilliseconds = 200;  // of all runs together

struct RunReport {
  std::string kernel;
  std::string device;       // "cpu, 2 threads" or "cuda:0, NVIDIA H100"
  double milliseconds = 0;  // of the fastest run, without plan and copies
  int runs = 0;
  size_t workspace_bytes = 0;
};

// A part of host memory that a descriptor points into.
struct Buffer {
  std::span<std::byte> bytes;
  bool output = false;
};

// Computes. `buffers` hold all of the descriptor's tensors; only a GPU needs them. Throws
// qkv::Error or Failure.
RunReport run(const qkv_attention_desc& desc, const DeviceChoice& where,
              const std::vector<Buffer>& buffers);

// The same on CUDA device `index` (device_cuda.cpp).
RunReport run_on_cuda(qkv_attention_desc desc, int32_t index, const std::vector<Buffer>& buffers);

}  // namespace qkv::cli
