// sm80_top_k: top-k selection on the tensor cores of sm_80 and later. fp16 and bf16, d_qk a
// multiple of 8 up to kSm80TopKMaxDim, d_v any multiple of 8, 16-byte aligned rows.
#pragma once

#include <cstdint>

#include "kernels/attention/sm80_top_k/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/ranked_key.h"
#include "kernels/core/scheduler.h"
#include "kernels/core/top_k_args.h"

namespace qkv::kernels {

// Which of the kernel's instances serves a problem.
struct Sm80TopKChoice {
  Type type;
  int32_t max_dim;  // of the policy
  bool rules;
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device. With more than one split it
// leaves the list of each in `of_splits`, of which top_k_combine makes the result. Allocates and
// synchronises nothing. Returns the launch's cudaError_t, which it takes off the runtime's record;
// 1 (cudaErrorInvalidValue) without launching for a problem that the host must decline.
int launch_sm80_top_k(const Sm80TopKChoice& choice, const ForwardArgs& args, const TopKArgs& top,
                      const TileSchedule& schedule, RankedKey* of_splits, void* stream);

// Loads the kernel onto the current device and sets its limit of shared memory, which holds for
// every k, so that no launch does it later, in the middle of a graph capture. Returns a
// cudaError_t.
int prepare_sm80_top_k(const Sm80TopKChoice& choice, int32_t smem_bytes);

// The same for one row of kernels.inc.
template <Type kType, int kDim, bool kRules>
int prepare_sm80_top_k_instance(int32_t smem_bytes);
template <Type kType, int kDim, bool kRules>
int launch_sm80_top_k_instance(const ForwardArgs& args, const TopKArgs& top,
                               const TileSchedule& schedule, RankedKey* of_splits, void* stream);

}  // namespace qkv::kernels
