// The kernel's parameter: ForwardArgs, TMA's descriptors of the tensors, and the tiles.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/mask_summary.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

struct Sm90ForwardArgs {
  // Tensors as [batch, sets or KV heads, queries or keys, heads of the set, dim].
  CUtensorMap q, k, v, o;
  ForwardArgs forward;
  TileSchedule schedule;
  Partials partials;
  uint32_t rules = 0;  // Sm90RuleBits
  int32_t tiles = 0;   // schedule.blocks()
  // Dynamic scheduling: a counter that is 0 when the kernel starts; a block that is done with a
  // tile takes the next one by atomicAdd. Null: static scheduling, block b computes the tiles b, b
  // + gridDim.x, b + 2 gridDim.x, ...
  int32_t* next_tile = nullptr;
  MaskSummary summary;  // of forward.mask; may be absent
};

}  // namespace qkv::kernels
