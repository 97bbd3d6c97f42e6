// Merge as an op: its kernels in order of preference, and how its problems print and compare.
#pragma once

#include <string>

#include "host/core/op.h"
#include "host/ops/merge/problem.h"

namespace qkv::host::merge {

extern const Op kOp;

extern const Kernel kCpuMerge;   // host memory
extern const Kernel kCudaMerge;  // any CUDA device

// The problem in one word, as attention's repro(). Tensors are contiguous where it is replayed.
std::string repro(const Problem& problem);

}  // namespace qkv::host::merge
