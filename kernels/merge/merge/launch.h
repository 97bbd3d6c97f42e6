// merge: O and LSE over all keys from the O and LSE over disjoint sets of keys (ring attention,
// shared prefixes).
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/merge/merge/policy.h"

namespace qkv::kernels {

struct MergeArgs {
  Tensor o_parts[kMergeMaxParts];    // [batch, heads, seq, dim]
  Tensor lse_parts[kMergeMaxParts];  // [batch, heads, seq] fp32
  Tensor o;                          // as o_parts, each with a type of its own
  Tensor lse;                        // data may be null
  Type part_type = Type::kF32, o_type = Type::kF32;
  int32_t parts = 0, batch = 0, heads = 0, seq = 0, dim = 0;
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Allocates and synchronises
// nothing. Returns the launch's cudaError_t, which it takes off the runtime's record; 1
// (cudaErrorInvalidValue) without launching for more rows than a grid has warps.
int launch_merge(const MergeArgs& args, void* stream);

}  // namespace qkv::kernels
