// top_k_combine: all results of top-k selection from the lists that the splits of a kernel left in
// the workspace.
#pragma once

#include <cstdint>

#include "kernels/attention/top_k_combine/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/top_k_args.h"

namespace qkv::kernels {

// Queues the kernel on `stream` (a cudaStream_t) of the current device, behind the splits. Rows of
// V and O, in fp16 or bf16, are 16-byte aligned, d_v is a multiple of 8. Allocates and synchronises
// nothing. Returns the launch's cudaError_t; 1 (cudaErrorInvalidValue) for more rows than a grid
// has warps, or another type.
int launch_top_k_combine(Type type, const ForwardArgs& args, const TopKArgs& top, int32_t splits,
                         const RankedKey* of_splits, void* stream);

// Loads the kernel onto the current device. Returns a cudaError_t.
int prepare_top_k_combine(Type type);

// The same for one row of kernels.inc.
template <Type kType>
int prepare_top_k_combine_instance();
template <Type kType>
int launch_top_k_combine_instance(const ForwardArgs& args, const TopKArgs& top, int32_t splits,
                                  const RankedKey* of_splits, void* stream);

}  // namespace qkv::kernels
