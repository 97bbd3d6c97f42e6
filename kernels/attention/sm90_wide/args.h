// The kernel's parameter: ForwardArgs, TMA's descriptors of the tensors, and the tiles.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

struct Sm90WideArgs {
  // Tensors as [batch, sets or KV heads, queries or keys, heads of the set, dim].
  CUtensorMap q, k, v, o;
  ForwardArgs forward;
  // Of clusters: a tile is kSm90WideRows rows for each of a cluster's thread blocks.
  TileSchedule schedule;
  Partials partials;
  int32_t cluster = 1;  // thread blocks
  int32_t panels_qk = 0, panels_v = 0;
};

}  // namespace qkv::kernels
