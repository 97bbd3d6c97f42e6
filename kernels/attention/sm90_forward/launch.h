// sm90_forward: forward attention on Hopper. fp16 and bf16, d_qk and d_v multiples of 8 that
// a shape in policy.h has room for, tensors that TMA can describe.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask_summary.h"
#include "kernels/core/scheduler.h"
#include "kernels/core/tensor_map.h"

namespace qkv::kernels {

// How a launch cuts up its work.
struct Sm90Tiles {
  TileSchedule schedule;
  Partials partials;
  Sm90Variant variant = Sm90Variant::kPlain;
  int32_t blocks = 0;            // of the grid, at most one for each multiprocessor
  int32_t* next_tile = nullptr;  // see Sm90ForwardArgs; 4 bytes of the workspace
  MaskSummary summary;           // made on the stream before, together with *next_tile = 0
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device, behind setting *next_tile
// to 0 where there is no summary. Allocates and synchronises nothing. Returns the launch's
// cudaError_t, which it takes off the runtime's record; 1 (cudaErrorInvalidValue) without launching
// for a problem that the host must decline.
int launch_sm90_forward(Type type, const TensorMaps& templates, const ForwardArgs& args,
                        const Sm90Tiles& tiles, void* stream);

// Loads the kernel onto the current device and raises its limit of shared memory, so that no launch
// does it later, in the middle of a graph capture. Returns a cudaError_t.
int prepare_sm90_forward(Type type, int32_t d_qk, int32_t d_v, Sm90Variant variant);

struct Sm90ForwardArgs;

// The same for one row of instances.inc.
template <Type kType, int kDimQk, int kDimV, Sm90Variant kVariant>
int prepare_sm90_forward_instance();
template <Type kType, int kDimQk, int kDimV, Sm90Variant kVariant>
int launch_sm90_forward_instance(const Sm90ForwardArgs& args, int32_t blocks, void* stream);

}  // namespace qkv::kernels
