// Projection as an op: its kernels in order of preference, and how its problems print and compare.
#pragma once

#include <string>

#include "host/core/op.h"
#include "host/ops/project/problem.h"

namespace qkv::host::project {

extern const Op kOp;

extern const Kernel kCpuProject;  // host memory
extern const Kernel kCublasLt;    // any CUDA device, by NVIDIA's cuBLASLt

// The problem in one word, as attention's repro().
std::string repro(const Problem& problem);

}  // namespace qkv::host::project
