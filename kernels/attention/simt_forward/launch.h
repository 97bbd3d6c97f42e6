// simt_forward: forward attention on plain CUDA cores. Any GPU from sm_75, fp32/fp16/bf16, any
// alignment.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"

namespace qkv::kernels {

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Allocates and synchronises
// nothing. Returns the launch's cudaError_t, which it takes off the runtime's record; 1
// (cudaErrorInvalidValue) without launching for a problem that the host must decline: d_v beyond
// kSimtForwardMaxDim, more than kMaxBlocks blocks.
int launch_simt_forward(Type type, const ForwardArgs& args, void* stream);

// Loads the kernel that serves d_v onto the current device, so that no launch does it later, in the
// middle of a graph capture. Returns a cudaError_t.
int prepare_simt_forward(Type type, int32_t d_v);

// The same for one row of kernels.inc; args.d_v <= kMaxDim.
template <Type kType, int kMaxDim>
int prepare_simt_forward_instance();
template <Type kType, int kMaxDim>
int launch_simt_forward_instance(const ForwardArgs& args, void* stream);

}  // namespace qkv::kernels
