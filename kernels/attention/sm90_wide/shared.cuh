// sm90_wide's shared memory, and what producer and math warpgroups know of it.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_wide/args.h"
#include "kernels/attention/sm90_wide/policy.h"
#include "kernels/core/mask.h"
#include "kernels/core/scheduler.h"
#include "kernels/ptx/cluster.h"
#include "kernels/ptx/cp_async_bulk.h"
#include "kernels/ptx/mbarrier.h"

namespace qkv::kernels {

// What a thread block computes.
struct Sm90WideWork {
  WorkTile tile;      // the block's own rows, none where the last cluster of a set has one too many
  int first, last;    // blocks of keys, the cluster's; none if last < first
  KeyRange unmasked;  // keys that each of the own rows sees
  KeyMask mask;
};

// Where a thread is in the ring of K's and V's pieces.
struct Sm90WideRing {
  uint32_t number = 0;  // of the piece, counted from the tile's first
  __device__ uint32_t stage() const { return number % kSm90WideStages; }
  __device__ uint32_t parity() const { return number / kSm90WideStages % 2; }  // of `empty`
};

// Two buffers in turn, each with a barrier.
struct Sm90WideTurn {
  uint32_t number = 0;
  __device__ uint32_t buffer() const { return number % 2; }
  __device__ uint32_t parity() const { return number / 2 % 2; }
};

template <class T>
struct Sm90WideShared {
  // The math warpgroups leave O in the place of Q, on its way to memory.
  T q[kSm90WidePanels][kSm90WideRows][kSm90WidePanel];
  T ring[kSm90WideStages][kSm90WideBoxes][kSm90WideBoxKeys][kSm90WidePanel];
  // The weights of a block of keys, from warpgroup 0 for both, as panels of 64 keys.
  T p[2][kSm90WideTileKv / kSm90WidePanel][kSm90WideRows][kSm90WidePanel];
  // What warpgroup 1 multiplies its rows of O by ahead of these weights; behind the last block
  // 1 / l, below 0 for a row without weights.
  float factor[2][kSm90WideRows];
  uint64_t q_full;
  // full: TMA has written a piece of the warpgroup's into the stage. Each has its own: of pieces
  // that arrive in another order than they are used in, it may not wait for one ahead of the
  // stage's last, which is the other's. empty: the piece's warpgroup has read it, in all blocks of
  // the cluster.
  uint64_t full[2][kSm90WideStages], empty[kSm90WideStages];
  // go: warpgroup 1 may use p and factor. p_empty: it has.
  uint64_t go[2], p_empty[2];
  Sm90WideWork work;
};

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Releases a stage of the ring, everywhere in the cluster: each block's producer fills the stage in
// all of them. The whole warp runs this, when it has read the stage.
template <class T>
__device__ inline void release_stage(Sm90WideShared<T>& shared, uint32_t stage, int cluster) {
  __syncwarp();
  const auto lane = threadIdx.x % 32;
  if (lane < static_cast<uint32_t>(cluster))
    ptx::mbarrier_arrive_cluster(ptx::mapa(shared_address(&shared.empty[stage]), lane));
}

// The work of block `rank` of its cluster. One thread.
__device__ inline Sm90WideWork describe_work(const Sm90WideArgs& args, uint32_t number, int rank) {
  Sm90WideWork work;
  work.tile = work_tile(args.schedule, number);
  WorkTile& tile = work.tile;
  work.mask = key_mask(args.forward, tile.batch);
  const KeyRange keys = keys_of_split(
      args.schedule, tile_keys(args.schedule, work.mask, tile.row, tile.rows).visible, tile.split);
  const bool has_keys = keys.begin < keys.end;
  work.first = has_keys ? keys.begin / kSm90WideTileKv : 0;
  work.last = has_keys ? (keys.end - 1) / kSm90WideTileKv : -1;
  tile.row += rank * kSm90WideRows;
  tile.rows = max(min(tile.rows - rank * kSm90WideRows, kSm90WideRows), 0);
  work.unmasked = {0, INT32_MAX};
  if (tile.rows > 0)
    work.unmasked = tile_keys(args.schedule, work.mask, tile.row, tile.rows).unmasked;
  return work;
}

// The number of the tile's set in its batch, a coordinate of TMA's descriptors of Q and O.
__device__ inline int set_of(const Sm90WideArgs& args, const WorkTile& at) {
  return args.schedule.query(at.head);  // head / group
}

}  // namespace qkv::kernels
