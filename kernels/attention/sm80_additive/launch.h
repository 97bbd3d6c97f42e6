// sm80_additive: soft attention with additive scores on the tensor cores of sm_80 and later. fp16
// and bf16, d_qk and d_v multiples of 8 up to kSm80AdditiveMaxDim, 16-byte aligned rows.
#pragma once

#include <cstdint>

#include "kernels/attention/sm80_additive/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

// Which of the kernel's instances serves a problem.
struct Sm80AdditiveChoice {
  Type type;
  int32_t max_dim;  // of the policy
  bool rules;
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Rows of a packed set share
// one head's weights. With more than one split it leaves partial results, which combine makes
// whole. Allocates and synchronises nothing. Returns the launch's cudaError_t, which it takes off
// the runtime's record; 1 (cudaErrorInvalidValue) without launching for a problem that the host
// must decline.
int launch_sm80_additive(const Sm80AdditiveChoice& choice, const ForwardArgs& args,
                         const TileSchedule& schedule, const Partials& partials, void* stream);

// Loads the kernel onto the current device and raises its limit of shared memory, so that no launch
// does it later, in the middle of a graph capture. Returns a cudaError_t.
int prepare_sm80_additive(const Sm80AdditiveChoice& choice);

// The same for one row of kernels.inc.
template <Type kType, int kDim, bool kRules>
int prepare_sm80_additive_instance();
template <Type kType, int kDim, bool kRules>
int launch_sm80_additive_instance(const ForwardArgs& args, const TileSchedule& schedule,
                                  const Partials& partials, void* stream);

}  // namespace qkv::kernels
