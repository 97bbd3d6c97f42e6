// sm90_forward's producer: one warp that describes the tiles and copies Q, K and V by TMA.
#pragma once

#include "kernels/attention/sm90_forward/shared.cuh"

namespace qkv::kernels {

template <class T>
struct Sm90Producer {
  using Shared = Sm90Shared<T>;

  // What the producer keeps of a Sm90Work.
  struct Tile {
    WorkTile at;
    int first, last, length;
  };

  // The tile of this number, also put into `work` for the math warpgroups. The whole warp runs
  // this.
  static __device__ Tile begin_tile(const Sm90ForwardArgs& args, int number, Sm90Work& work) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const WorkTile at = work_tile(args.schedule, static_cast<uint32_t>(number));
    const KeyMask mask = key_mask(args.forward, at.batch);
    const KeyRange keys =
        keys_of_split(args.schedule, tile_keys(args.schedule, mask, at.row, at.rows).any, at.split);
    // Lane w looks at the rows of warpgroup w.
    const int w = lane % kSm90MathWarpgroups;
    const int rows = min(at.rows - w * kSm90Rows, kSm90Rows);
    TileKeys seen{};
    if (rows > 0) seen = tile_keys(args.schedule, mask, at.row + w * kSm90Rows, rows);
    seen.any = {max(seen.any.begin, keys.begin), min(seen.any.end, keys.end)};
    const bool some = seen.any.begin < seen.any.end;
    int begin = some ? seen.any.begin : INT32_MAX, end = some ? seen.any.end : 0;
    begin = min(begin, __shfl_xor_sync(0xffffffffu, begin, 1));
    end = max(end, __shfl_xor_sync(0xffffffffu, end, 1));
    const int first = end > 0 ? begin / kSm90TileKv : 0;
    const int last = end > 0 ? (end - 1) / kSm90TileKv : -1;
    if (lane < kSm90MathWarpgroups) {
      work.any[w] = seen.any;
      work.all[w] = seen.all;
    }
    if (lane == 0) {
      work.tile = at;
      work.first = first;
      work.last = last;
      work.mask = mask;
      work.end = false;
    }
    __syncwarp();
    return {at, first, last, mask.length};
  }

  // Starts copying a block of K or V, of which `barrier` is told. One lane.
  static __device__ void load(T (*panels)[kSm90TileKv][kSm90Panel], const CUtensorMap& map,
                              const WorkTile& at, int block, uint64_t& barrier) {
    ptx::mbarrier_arrive_expect_tx(shared_address(&barrier), sizeof(T[2][kSm90TileKv][kSm90Panel]));
    for (int panel = 0; panel < 2; ++panel)
      ptx::cp_async_bulk_tensor_load(
          shared_address(panels[panel]), &map,
          {panel * kSm90Panel, 0, block * kSm90TileKv, at.head_kv, at.batch},
          shared_address(&barrier), ptx::kEvictLast);
  }

  // The whole warp runs this; lane 0 copies.
  static __device__ void produce(const Sm90ForwardArgs& args, Shared& shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const bool leader = lane == 0;
    Sm90Ring q, k, v;
    uint32_t tail_parity = 0;

    for (int number = static_cast<int>(blockIdx.x);; q.next()) {
      const uint32_t q_place = q.place();
      const auto announce_empty = [&] {
        if (leader)
          for (uint64_t& full : shared.q_full[q_place]) ptx::mbarrier_arrive(shared_address(&full));
      };
      ptx::mbarrier_wait(shared_address(&shared.q_empty[q_place]), q.parity() ^ 1);
      if (number >= args.tiles) {
        if (leader) {
          shared.work[q_place] = {};  // no blocks of keys
          shared.work[q_place].end = true;
        }
        announce_empty();
        return;
      }
      const Tile tile = begin_tile(args, number, shared.work[q_place]);

      const auto load_k = [&](int block) {
        const uint32_t place = k.place();
        ptx::mbarrier_wait(shared_address(&shared.k_empty[place]), k.parity() ^ 1);
        if (leader) load(shared.k[place], args.k, tile.at, block, shared.k_full[place]);
        k.next();
      };
      // Keys from the length on may hold NaN, and 0 x NaN is NaN: their values become 0.
      const auto load_v = [&](int block) {
        const uint32_t place = v.place();
        const int keys = tile.length - block * kSm90TileKv;
        const bool mend = keys < kSm90TileKv && tile.length < args.forward.s_kv;
        uint64_t& full = mend ? shared.v_tail : shared.v_full[place];
        ptx::mbarrier_wait(shared_address(&shared.v_empty[place]), v.parity() ^ 1);
        if (leader) load(shared.v[place], args.v, tile.at, block, full);
        if (mend) {
          ptx::mbarrier_wait(shared_address(&shared.v_tail), tail_parity);
          tail_parity ^= 1;
          for (int key = keys + lane / 16; key < kSm90TileKv; key += 2)
            reinterpret_cast<uint4*>(shared.v[place][lane / 8 % 2][key])[lane % 8] = uint4{};
          ptx::fence_proxy_async();
          __syncwarp();
          if (leader) ptx::mbarrier_arrive(shared_address(&shared.v_full[place]));
        }
        v.next();
      };
      const auto load_q = [&](int w) {
        uint64_t& full = shared.q_full[q_place][w];
        ptx::mbarrier_arrive_expect_tx(shared_address(&full), sizeof shared.q[0][0]);
        for (int panel = 0; panel < 2; ++panel)
          ptx::cp_async_bulk_tensor_load(
              shared_address(shared.q[q_place][w][panel]), &args.q,
              {panel * kSm90Panel, 0, args.schedule.query(tile.at.row + w * kSm90Rows),
               set_of(args, tile.at), tile.at.batch},
              shared_address(&full), ptx::kEvictFirst);
      };

      const bool empty = tile.last < tile.first;
      if (empty) {
        announce_empty();
      } else {
        // The first warpgroup begins as soon as its rows of Q and the last block of K are there.
        if (leader) load_q(0);
        load_k(tile.last);
        if (leader) load_q(1);
#pragma unroll 1
        for (int block = tile.last; block > tile.first; --block) {
          load_k(block - 1);
          load_v(block);
        }
      }
      // Fetched not before the last blocks of keys, when the block of threads is nearly free: who
      // had the longest tile of a wave gets the shortest of the next.
      int next = number + static_cast<int>(gridDim.x);
      if (args.next_tile != nullptr && leader)
        next = atomicAdd(args.next_tile, 1) + static_cast<int>(gridDim.x);
      if (!empty) load_v(tile.first);
      number = __shfl_sync(0xffffffffu, next, 0);
    }
  }
};

}  // namespace qkv::kernels
