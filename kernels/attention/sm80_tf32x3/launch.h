// sm80_tf32x3: forward attention in fp32 on the tensor cores of sm_80 and sm_90. d_qk and d_v
// multiples of 4 up to kSm80Tf32x3MaxDim, 16-byte aligned rows.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"

namespace qkv::kernels {

// Which of the kernel's instances serves a problem.
struct Sm80Tf32x3Choice {
  int32_t max_dim;  // of the policy
  bool rules;       // softcap, mask, bias or ALiBi
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Allocates and synchronises
// nothing. Returns the launch's cudaError_t, which it takes off the runtime's record; 1
// (cudaErrorInvalidValue) without launching for a problem that the host must decline.
int launch_sm80_tf32x3(const Sm80Tf32x3Choice& choice, const ForwardArgs& args, void* stream);

// Loads the kernel onto the current device and raises its limit of shared memory, so that no launch
// does it later, in the middle of a graph capture. Returns a cudaError_t.
int prepare_sm80_tf32x3(const Sm80Tf32x3Choice& choice);

// The same for one row of kernels.inc.
template <int kDim, bool kRules>
int prepare_sm80_tf32x3_instance();
template <int kDim, bool kRules>
int launch_sm80_tf32x3_instance(const ForwardArgs& args, void* stream);

}  // namespace qkv::kernels
