// hard_combine: O, index and LSE of hard attention from the best keys that the splits of a kernel
// left in the workspace.
#pragma once

#include <cstdint>

#include "kernels/attention/hard_combine/policy.h"
#include "kernels/core/forward_args.h"

namespace qkv::kernels {

// Queues the kernel on `stream` (a cudaStream_t) of the current device, behind the splits. An
// element of V and O has `element_bytes`; their rows are 16-byte aligned. LSE is `factor` times the
// best score. Allocates and synchronises nothing. Returns the launch's cudaError_t; 1
// (cudaErrorInvalidValue) for more rows than a grid has warps.
int launch_hard_combine(const ForwardArgs& args, int32_t element_bytes, float factor,
                        int32_t splits, const BestKey* of_splits, void* stream);

// Loads the kernel onto the current device. Returns a cudaError_t.
int prepare_hard_combine();

}  // namespace qkv::kernels
