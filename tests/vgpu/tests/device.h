// Where a test's PTX runs: on the virtual GPU, or, with VGPU_TRUTH=gpu in the environment, on a
// real one through its driver, so that the same expectations are held against hardware.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "check/finding.h"
#include "common/types.h"
#include "count/counters.h"
#include "machine/tensor_sum.h"

namespace vgpu::test {

// A tensor map as cuTensorMapEncodeTiled takes it: its numbers, dimensions innermost first.
struct Tensor {
  size_t argument = 0;  // the buffer that has the elements
  u32 type = 0, swizzle = 0, fill = 0;
  std::vector<u64> dims, strides;
  std::vector<u32> box, steps;
};

// An argument is a buffer (copied in and out), a tensor map or a 64-bit scalar.
struct Argument {
  std::vector<u8>* buffer = nullptr;
  u64 scalar = 0;
  bool undefined = false;  // a buffer whose content the device has not been told
  const Tensor* tensor = nullptr;
};
template <class T>
Argument in_out(std::vector<u8>& bytes) {
  return {&bytes, 0, false};
}

struct LaunchSpec {
  u32 grid = 1, block = 32;
  u32 dynamic_shared = 0;
  u64 seed = 1;
  Asynchrony asynchrony = Asynchrony::kBySeed;
  MmaSums mma = MmaSums::kExact;  // real devices have their own
};

class TestDevice {
 public:
  virtual ~TestDevice() = default;
  // Runs `kernel` of the PTX text. Returns an empty string, or what went wrong.
  virtual std::string run(const std::string& ptx, const std::string& kernel, const LaunchSpec& spec,
                          std::vector<Argument> arguments) = 0;
  virtual int capability() const = 0;
};

bool on_real_gpu();
TestDevice& device();  // the one the environment asks for

// Only on the virtual GPU: what a run found and counted.
struct Observed {
  std::string error;
  std::vector<Finding> findings, hints;
  LaunchCounts counts;
};
Observed observe(const std::string& ptx, const std::string& kernel, const LaunchSpec& spec,
                 std::vector<Argument> arguments, const std::string& device = "a100");

}  // namespace vgpu::test
