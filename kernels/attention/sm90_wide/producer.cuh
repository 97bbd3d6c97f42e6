// sm90_wide's producer: one warp that copies Q, K and V by TMA.
#pragma once

#include "kernels/attention/sm90_wide/shared.cuh"
#include "kernels/ptx/griddepcontrol.h"

namespace qkv::kernels {

// The whole warp runs this, lane 0 copies. Pieces are copied in the order in which the tensor cores
// come to them: K of a block, warpgroup 1's V of the block before, warpgroup 0's V.
template <class T>
struct Sm90WideProducer {
  using Shared = Sm90WideShared<T>;

  const Sm90WideArgs& args;
  Shared& shared;
  const int rank;  // in the cluster
  Sm90WideRing ring;

  __device__ static bool leads() { return threadIdx.x % 32 == 0; }

  // One box of K or V, into all blocks of the cluster.
  __device__ void copy(uint32_t to, const CUtensorMap& map, int dim, int key, uint64_t& full) {
    const WorkTile& tile = shared.work.tile;
    const int32_t at[5] = {dim, 0, key, tile.head_kv, tile.batch};
    if (args.cluster == 1)
      ptx::cp_async_bulk_tensor_load(to, &map, at, shared_address(&full), ptx::kEvictLast);
    else
      ptx::cp_async_bulk_tensor_load_multicast(to, &map, at, shared_address(&full),
                                               static_cast<uint16_t>((1 << args.cluster) - 1),
                                               ptx::kEvictLast);
  }

  // The next piece of the ring, for warpgroup w: boxes of `map`, a step of dims and keys apart.
  // Each block of the cluster copies its share of them, and expects all.
  __device__ void fill(int w, const CUtensorMap& map, int boxes, int dim, int key, int step_dim,
                       int step_key) {
    const uint32_t stage = ring.stage();
    ptx::mbarrier_wait(shared_address(&shared.empty[stage]), ring.parity() ^ 1);
    ++ring.number;
    if (!leads()) return;
    uint64_t& full = shared.full[w][stage];
    ptx::mbarrier_arrive_expect_tx(shared_address(&full),
                                   static_cast<uint32_t>(boxes * kSm90WideBoxBytes));
    for (int box = rank; box < boxes; box += args.cluster)
      copy(shared_address(shared.ring[stage][box]), map, dim + box * step_dim, key + box * step_key,
           full);
  }

  __device__ void fill_k(int block) {
    for (int panel = 0; panel < args.panels_qk; ++panel)
      fill(0, args.k, kSm90WideBoxes, panel * kSm90WidePanel, block * kSm90WideTileKv, 0,
           kSm90WideBoxKeys);
  }

  // V of warpgroup w, which may have no columns.
  __device__ void fill_v(int block, int w) {
    const int panel = w * kSm90WideHalf, panels = min(args.panels_v - panel, kSm90WideHalf);
    if (panels <= 0) return;
    for (int piece = 0; piece < kSm90WidePiecesV; ++piece)
      fill(w, args.v, panels, panel * kSm90WidePanel,
           block * kSm90WideTileKv + piece * kSm90WideBoxKeys, kSm90WidePanel, 0);
  }

  __device__ void load_q() {
    if (!leads()) return;
    const WorkTile& tile = shared.work.tile;
    ptx::mbarrier_arrive_expect_tx(shared_address(&shared.q_full),
                                   static_cast<uint32_t>(args.panels_qk) * sizeof shared.q[0]);
    for (int panel = 0; panel < args.panels_qk; ++panel)
      ptx::cp_async_bulk_tensor_load(shared_address(shared.q[panel]), &args.q,
                                     {panel * kSm90WidePanel, 0, args.schedule.query(tile.row),
                                      set_of(args, tile), tile.batch},
                                     shared_address(&shared.q_full), ptx::kEvictFirst);
  }

  __device__ void run() {
    ptx::griddepcontrol_launch_dependents();  // combine
    const int first = shared.work.first, last = shared.work.last;
    if (last < first) return;
    load_q();
#pragma unroll 1
    for (int block = last; block >= first; --block) {
      fill_k(block);
      if (block < last) fill_v(block + 1, 1);
      fill_v(block, 0);
    }
    fill_v(first, 1);
  }
};

}  // namespace qkv::kernels
