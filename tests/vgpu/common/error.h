// The two ways in which work on the virtual GPU ends early.
#pragma once

#include <stdexcept>
#include <string>

#include "common/types.h"

namespace vgpu {

// PTX that cannot be parsed or is not supported. The message names line and text.
class PtxError : public std::runtime_error {
 public:
  PtxError(u32 line, const std::string& what)
      : std::runtime_error("PTX line " + std::to_string(line) + ": " + what), line_(line) {}
  u32 line() const { return line_; }

 private:
  u32 line_;
};

// A device fault: aborts the running launch. `code` is the cudaError_t that a real device reports.
class Fault : public std::runtime_error {
 public:
  Fault(int code, const std::string& what) : std::runtime_error(what), code_(code) {}
  int code() const { return code_; }

 private:
  int code_;
};

// cudaError_t values of the faults (the machine does not include CUDA headers).
inline constexpr int kFaultInvalidAddressSpace = 717;
inline constexpr int kFaultIllegalAddress = 700;
inline constexpr int kFaultLaunchTimeout = 702;
inline constexpr int kFaultAssert = 710;
inline constexpr int kFaultHardwareStack = 714;
inline constexpr int kFaultMisaligned = 716;
inline constexpr int kFaultInvalidPc = 718;
inline constexpr int kFaultLaunchFailure = 719;

}  // namespace vgpu
