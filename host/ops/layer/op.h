// A multi-head layer as an op: one that owns plans of others.
#pragma once

#include <string>

#include "host/core/op.h"
#include "host/ops/layer/problem.h"

namespace qkv::host::layer {

extern const Op kOp;

extern const Kernel kCpuLayer;   // host memory
extern const Kernel kCudaLayer;  // any CUDA device

// The problem in one word, as attention's repro(), from which it has all that is attention's.
std::string repro(const Problem& problem);

}  // namespace qkv::host::layer
