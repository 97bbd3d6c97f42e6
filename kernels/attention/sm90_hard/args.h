// The kernel's parameter: ForwardArgs, TMA's descriptors of Q and K, and the tiles.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/core/best_key.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

struct Sm90HardArgs {
  // Tensors as [batch, sets or KV heads, queries or keys, heads of the set, dim].
  CUtensorMap q, k;
  ForwardArgs forward;
  TileSchedule schedule;
  int32_t tiles = 0;             // schedule.blocks()
  BestKey* of_splits = nullptr;  // where there are several
};

}  // namespace qkv::kernels
