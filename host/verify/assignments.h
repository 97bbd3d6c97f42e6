// Which trials try which kernel on a device. For programs that look inside of the library: what a
// kernel would take if it came first, no entry point says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/verify/supervisor.h"
#include "qkv/qkv.h"

namespace qkv::verify {

struct Selected {
  std::string kernel, trial;  // "": all
  uint64_t seed = 0;          // of the order
};

// The kernels that Selected may name, in the library's order; none where there is no such device.
std::vector<std::string> kernels_of(qkv_device device, int32_t index);

// One for each kernel of the device, in the library's order; each kernel instance that the device
// can run is in one. Needs host_place() as the place; no problem is run.
std::vector<Assignment> assignments(qkv_device device, int32_t index, const Selected& selected);

// All kernels that run attention on CUDA devices but this one, as QKV_DISABLE takes them.
std::string all_but(const std::string& kernel);

}  // namespace qkv::verify
