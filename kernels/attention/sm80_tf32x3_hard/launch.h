// sm80_tf32x3_hard: hard attention in fp32 on the tensor cores of sm_80 and sm_90. d_qk a multiple
// of 4 up to kSm80Tf32x3HardMaxDim, d_v any multiple of 4, 16-byte aligned rows.
#pragma once

#include <cstdint>

#include "kernels/attention/sm80_tf32x3_hard/policy.h"
#include "kernels/core/best_key.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

// Which of the kernel's instances serves a problem.
struct Sm80Tf32x3HardChoice {
  int32_t max_dim;  // of the policy
  bool rules;
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device. With more than one split it
// leaves the best key of each in `of_splits`, of which hard_combine makes the result. Allocates and
// synchronises nothing. Returns the launch's cudaError_t, which it takes off the runtime's record;
// 1 (cudaErrorInvalidValue) without launching for a problem that the host must decline.
int launch_sm80_tf32x3_hard(const Sm80Tf32x3HardChoice& choice, const ForwardArgs& args,
                            const TileSchedule& schedule, BestKey* of_splits, void* stream);

// Loads the kernel onto the current device and raises its limit of shared memory, so that no launch
// does it later, in the middle of a graph capture. Returns a cudaError_t.
int prepare_sm80_tf32x3_hard(const Sm80Tf32x3HardChoice& choice);

// The same for one row of kernels.inc.
template <int kDim, bool kRules>
int prepare_sm80_tf32x3_hard_instance();
template <int kDim, bool kRules>
int launch_sm80_tf32x3_hard_instance(const ForwardArgs& args, const TileSchedule& schedule,
                                     BestKey* of_splits, void* stream);

}  // namespace qkv::kernels
