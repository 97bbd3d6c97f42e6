// sm90_hard's producer: one thread that describes the tiles and copies Q and K by TMA.
#pragma once

#include "kernels/attention/sm90_hard/shared.cuh"
#include "kernels/ptx/cp_async_bulk.h"

namespace qkv::kernels {

template <class T, int kDim>
struct Sm90HardProducer {
  using Shared = Sm90HardShared<T, kDim>;
  static constexpr int kPanels = Shared::kShape.panels();

  const Sm90HardArgs& args;
  Shared& shared;
  typename Shared::QRing q;
  typename Shared::KRing k;

  __device__ Sm90HardWork describe(int number) const {
    Sm90HardWork work{};
    work.last = -1;
    work.end = number >= args.tiles;
    if (work.end) return work;
    work.tile = work_tile(args.schedule, static_cast<uint32_t>(number));
    work.mask = key_mask(args.forward, work.tile.batch);
    const KeyRange visible =
        tile_keys(args.schedule, work.mask, work.tile.row, work.tile.rows).visible;
    work.keys = keys_of_split(args.schedule, visible, work.tile.split);
    if (work.keys.begin >= work.keys.end) return work;
    work.first = work.keys.begin / kSm90HardTileKv;
    work.last = (work.keys.end - 1) / kSm90HardTileKv;
    return work;
  }

  // Of a tile without keys, and at the end of work, only `work` is there.
  __device__ void send_q(const Sm90HardWork& work) {
    ptx::mbarrier_wait(shared_address(&shared.q_empty[q.stage]), q.parity ^ 1);
    shared.work[q.stage] = work;
    const uint32_t full = shared_address(&shared.q_full[q.stage]);
    if (work.first > work.last) {
      ptx::mbarrier_arrive(full);
    } else {
      ptx::mbarrier_arrive_expect_tx(full, sizeof shared.q[0]);
      const WorkTile& at = work.tile;
      for (int w = 0; w < kSm90HardWarpgroups; ++w)
        for (int panel = 0; panel < kPanels; ++panel)
          ptx::cp_async_bulk_tensor_load(
              shared_address(shared.q[q.stage][w][panel]), &args.q,
              {panel * kSm90HardPanel, 0, args.schedule.query(at.row + w * kSm90HardRows),
               args.schedule.query(at.head), at.batch},  // head / group: the set's number
              full, ptx::kEvictFirst);
    }
    q.next();
  }

  __device__ void send_k(const WorkTile& at, int block) {
    ptx::mbarrier_wait(shared_address(&shared.k_empty[k.stage]), k.parity ^ 1);
    const uint32_t full = shared_address(&shared.k_full[k.stage]);
    ptx::mbarrier_arrive_expect_tx(full, sizeof shared.k[0]);
    for (int panel = 0; panel < kPanels; ++panel)
      ptx::cp_async_bulk_tensor_load(
          shared_address(shared.k[k.stage][panel]), &args.k,
          {panel * kSm90HardPanel, 0, block * kSm90HardTileKv, at.head_kv, at.batch}, full,
          ptx::kEvictLast);
    k.next();
  }

  // Block b of the grid computes the tiles b, b + gridDim.x, ...
  __device__ void run() {
    ptx::prefetch_tensormap(&args.q);
    ptx::prefetch_tensormap(&args.k);
    for (int number = static_cast<int>(blockIdx.x);; number += static_cast<int>(gridDim.x)) {
      const Sm90HardWork work = describe(number);
      send_q(work);
      if (work.end) return;
#pragma unroll 1
      for (int block = work.first; block <= work.last; ++block) send_k(work.tile, block);
    }
  }
};

}  // namespace qkv::kernels
