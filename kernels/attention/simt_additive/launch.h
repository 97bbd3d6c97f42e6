// simt_additive: soft attention with additive scores on plain CUDA cores, tanh by the rational form
// (rational.h). Any d_qk, d_v up to kSimtAdditiveMaxDim, any alignment.
#pragma once

#include <cstdint>

#include "kernels/attention/simt_additive/policy.h"
#include "kernels/core/forward_args.h"

namespace qkv::kernels {

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Allocates and synchronises
// nothing. Returns the launch's cudaError_t, which it takes off the runtime's record; 1
// (cudaErrorInvalidValue) without launching for a problem that the host must decline.
int launch_simt_additive(Type type, const ForwardArgs& args, void* stream);

// Loads the kernel onto the current device, so that no launch does it later, in the middle of a
// graph capture. Returns a cudaError_t.
int prepare_simt_additive(Type type);

// The same for one row of kernels.inc.
template <Type kType>
int prepare_simt_additive_instance();
template <Type kType>
int launch_simt_additive_instance(const ForwardArgs& args, void* stream);

}  // namespace qkv::kernels
