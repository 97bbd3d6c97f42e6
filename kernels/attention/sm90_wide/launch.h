// sm90_wide: forward attention on Hopper with head dims above those of sm90_forward. fp16 and bf16,
// d_qk and d_v multiples of 8 up to kSm90WideDim, tensors that TMA can describe.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"
#include "kernels/core/tensor_map.h"

namespace qkv::kernels {

// How a launch cuts up its work.
struct Sm90WideTiles {
  TileSchedule schedule;  // of clusters, see Sm90WideArgs
  Partials partials;
  int32_t cluster = 1;  // thread blocks that share K and V: 1 or kSm90WideMostCluster
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Allocates and synchronises
// nothing. Returns the launch's cudaError_t, which it takes off the runtime's record; 1
// (cudaErrorInvalidValue) without launching for a problem that the host must decline.
int launch_sm90_wide(Type type, const TensorMaps& templates, const ForwardArgs& args,
                     const Sm90WideTiles& tiles, void* stream);

// Loads the kernel onto the current device and raises its limit of shared memory, so that no launch
// does it later, in the middle of a graph capture. Returns a cudaError_t.
int prepare_sm90_wide(Type type, bool softcap);

struct Sm90WideArgs;

// The same for one row of kernels.inc.
template <Type kType, bool kSoftcap>
int prepare_sm90_wide_instance();
template <Type kType, bool kSoftcap>
int launch_sm90_wide_instance(const Sm90WideArgs& args, void* stream);

}  // namespace qkv::kernels
