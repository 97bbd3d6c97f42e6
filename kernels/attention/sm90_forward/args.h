// What sm90_forward is told beyond ForwardArgs: TMA's maps of the tensors, and its tiles.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

struct Sm90ForwardArgs {
  // Tensors as [batch, sets or KV heads, queries or keys, heads of the set, dim].
  CUtensorMap q, k, v, o;
  ForwardArgs forward;
  TileSchedule schedule;
  Partials partials;
  int32_t tiles = 0;  // schedule.blocks()
  int32_t* next_tile =
      nullptr;  // 0 at first: blocks fetch their tiles; null: they are a grid apart
};

}  // namespace qkv::kernels
