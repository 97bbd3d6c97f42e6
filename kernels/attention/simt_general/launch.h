// simt_general: attention on plain CUDA cores, all of the contract. Any GPU from sm_75,
// fp32/fp16/bf16, any alignment.
#pragma once

#include <cstdint>

#include "kernels/attention/simt_general/policy.h"
#include "kernels/core/forward_args.h"

namespace qkv::kernels {

// Which of the kernel's instances serves a problem.
struct SimtGeneralChoice {
  Type type;
  Score score;
  Selection selection;
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Allocates and synchronises
// nothing. Returns the launch's cudaError_t, which it takes off the runtime's record; 1
// (cudaErrorInvalidValue) without launching for more than kMaxBlocks blocks.
int launch_simt_general(const SimtGeneralChoice& choice, const ForwardArgs& args,
                        const TopKArgs& top, void* stream);

// Loads the kernel onto the current device, so that no launch does it later, in the middle of a
// graph capture. Returns a cudaError_t.
int prepare_simt_general(const SimtGeneralChoice& choice);

// The same for one row of kernels.inc.
template <Type kType, Score kScore, Selection kSelection>
int prepare_simt_general_instance();
template <Type kType, Score kScore, Selection kSelection>
int launch_simt_general_instance(const ForwardArgs& args, const TopKArgs& top, void* stream);

}  // namespace qkv::kernels
