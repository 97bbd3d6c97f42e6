// simt_forward: forward attention on plain CUDA cores. Any GPU from sm_75, fp32/fp16/bf16, any
// alignment.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"

namespace qkv::kernels {

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Allocates and synchronises
// nothing. Returns the launch's cudaError_t; cudaErrorInvalidValue for dims beyond
// kSimtForwardMaxDim.
int launch_simt_forward(Type type, const ForwardArgs& args, void* stream);

}  // namespace qkv::kernels
