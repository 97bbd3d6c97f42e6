// The kernel instances that the library has, as kernels/kernels.inc lists them, and which of them a
// case launches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/verify/cases.h"

namespace qkv::verify {

struct Instance {
  std::string kernel;  // "sm80_forward"
  std::string name;    // "sm80_forward F16 128 Tall": the kernel and its row of kernels.inc
  // Whether the kernel takes problems on devices of this compute capability, 90 for 9.0.
  bool (*runs_on)(int32_t compute);
};

const std::vector<Instance>& all_instances();

// The instance of an attention kernel that a case launches. `plan` is its plan's text, which says
// what the case alone does not: which tile was chosen.
std::string instance_of(const std::string& kernel, const Case& row, const std::string& plan);

// The instance that looks through the mask before it; "" where the plan has none.
std::string summary_of(const std::string& plan);

// The instance of combine that follows it; "" where the plan does not split the keys.
std::string combine_of(const Case& row, const std::string& plan);

}  // namespace qkv::verify
