// Which blocks of keys a boolean mask leaves to a tile of query rows, found before the kernel that
// computes them.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"
#include "kernels/host_device.h"

namespace qkv::kernels {

// A byte for each block of tile_kv keys of each tile: not 0 where the mask shows a key of it to one
// of the tile's rows. Tiles that read the same part of the mask have the same bytes: an axis that
// the mask is broadcast over is there once, its stride is 0.
struct MaskSummary {
  unsigned char* visible = nullptr;          // null: there is no summary
  int64_t batch = 0, set = 0, tile = 0;      // strides
  int32_t batches = 1, sets = 1, tiles = 1;  // as many as differ; sets of a batch
  int32_t blocks = 0;                        // of keys, each one byte

  constexpr int64_t bytes() const { return int64_t{batches} * sets * tiles * blocks; }

  // The tile's blocks.
  QKV_HOST_DEVICE const unsigned char* of(int32_t b, int32_t set_of_batch, int32_t nth_tile) const {
    return visible + (b * batch + set_of_batch * set + nth_tile * tile);
  }
};

// Of the mask of `args`, for the tiles of a schedule.
constexpr MaskSummary mask_summary_of(const ForwardArgs& args, const TileSchedule& schedule) {
  MaskSummary summary;
  summary.blocks =
      static_cast<int32_t>((int64_t{args.s_kv} + schedule.tile_kv - 1) / schedule.tile_kv);
  if (args.mask.row != 0) {
    summary.tiles = schedule.tiles;
    summary.tile = summary.blocks;
  }
  if (args.mask.head != 0) {
    summary.sets = schedule.heads;
    summary.set = int64_t{summary.tiles} * summary.blocks;
  }
  if (args.mask.batch != 0) {
    summary.batches = args.batch;
    summary.batch = int64_t{summary.sets} * summary.tiles * summary.blocks;
  }
  return summary;
}

}  // namespace qkv::kernels
