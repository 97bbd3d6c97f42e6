// sm90_hard: hard attention on Hopper. fp16 and bf16, d_qk a multiple of 8 up to kSm90HardMaxDim,
// d_v any multiple of 8, tensors that TMA can describe; no softcap, mask, bias or ALiBi.
#pragma once

#include <cstdint>

#include "kernels/core/best_key.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"
#include "kernels/core/tensor_map.h"

namespace qkv::kernels {

// How a launch cuts up its work.
struct Sm90HardTiles {
  TileSchedule schedule;
  BestKey* of_splits = nullptr;  // where there are several, of which hard_combine makes the result
  int32_t blocks = 0;            // of the grid, at most one for each multiprocessor
};

// Queues the kernel on `stream` (a cudaStream_t) of the current device. Allocates and synchronises
// nothing. Returns the launch's cudaError_t, which it takes off the runtime's record; 1
// (cudaErrorInvalidValue) without launching for a problem that the host must decline.
int launch_sm90_hard(Type type, const TensorMaps& templates, const ForwardArgs& args,
                     const Sm90HardTiles& tiles, void* stream);

// Loads the kernel onto the current device and raises its limit of shared memory, so that no launch
// does it later, in the middle of a graph capture. Returns a cudaError_t.
int prepare_sm90_hard(Type type, int32_t d_qk);

struct Sm90HardArgs;

// The same for one row of instances.inc.
template <Type kType, int kDim>
int prepare_sm90_hard_instance();
template <Type kType, int kDim>
int launch_sm90_hard_instance(const Sm90HardArgs& args, int32_t blocks, void* stream);

}  // namespace qkv::kernels
