// sm90_forward's producer: one warp that describes the tiles and copies Q, K and V by TMA.
#pragma once

#include "kernels/attention/sm90_forward/shared.cuh"

namespace qkv::kernels {

template <class T>
struct Sm90Producer {
  using Shared = Sm90Shared<T>;

  // Describes tile `number` in `work`, for the math warpgroups. The whole warp runs this.
  static __device__ void describe_tile(const Sm90ForwardArgs& args, int number, Sm90Work& work) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const WorkTile at = work_tile(args.schedule, static_cast<uint32_t>(number));
    const KeyMask mask = key_mask(args.forward, at.batch);
    const KeyRange keys = keys_of_split(
        args.schedule, tile_keys(args.schedule, mask, at.row, at.rows).visible, at.split);
    // Lane w computes for the rows of warpgroup w.
    const int w = lane % kSm90MathWarpgroups;
    const int rows = min(at.rows - w * kSm90Rows, kSm90Rows);
    TileKeys of_rows{};
    if (rows > 0) of_rows = tile_keys(args.schedule, mask, at.row + w * kSm90Rows, rows);
    of_rows.visible = {max(of_rows.visible.begin, keys.begin), min(of_rows.visible.end, keys.end)};
    const bool has_keys = of_rows.visible.begin < of_rows.visible.end;
    int begin = has_keys ? of_rows.visible.begin : INT32_MAX;
    int end = has_keys ? of_rows.visible.end : 0;
    begin = min(begin, __shfl_xor_sync(0xffffffffu, begin, 1));
    end = max(end, __shfl_xor_sync(0xffffffffu, end, 1));
    const int first = end > 0 ? begin / kSm90TileKv : 0;
    const int last = end > 0 ? (end - 1) / kSm90TileKv : -1;
    if (lane < kSm90MathWarpgroups) {
      work.visible[w] = of_rows.visible;
      work.unmasked[w] = of_rows.unmasked;
    }
    if (lane == 0) {
      work.tile = at;
      work.first = first;
      work.last = last;
      work.mask = mask;
      work.end = false;
    }
  }

  // Starts copying the rows of Q of warpgroup w of the tile that `work` describes. One lane.
  static __device__ void load_q(const Sm90ForwardArgs& args, Shared& shared, uint32_t stage,
                                int w) {
    const WorkTile& at = shared.work[stage].tile;
    uint64_t& full = shared.q_full[stage][w];
    ptx::mbarrier_arrive_expect_tx(shared_address(&full), sizeof shared.q[0][0]);
    for (int panel = 0; panel < kSm90Panels; ++panel)
      ptx::cp_async_bulk_tensor_load(
          shared_address(shared.q[stage][w][panel]), &args.q,
          {panel * kSm90Panel, 0, args.schedule.query(at.row + w * kSm90Rows), set_of(args, at),
           at.batch},
          shared_address(&full), ptx::kEvictFirst);
  }

  // Starts copying a block of K or V; its bytes complete a phase of `barrier`. One lane.
  static __device__ void load(T (*panels)[kSm90TileKv][kSm90Panel], const CUtensorMap& map,
                              const WorkTile& at, int block, uint64_t& barrier) {
    ptx::mbarrier_arrive_expect_tx(shared_address(&barrier),
                                   sizeof(T[kSm90Panels][kSm90TileKv][kSm90Panel]));
    for (int panel = 0; panel < kSm90Panels; ++panel)
      ptx::cp_async_bulk_tensor_load(
          shared_address(panels[panel]), &map,
          {panel * kSm90Panel, 0, block * kSm90TileKv, at.head_kv, at.batch},
          shared_address(&barrier), ptx::kEvictLast);
  }

  // The whole warp runs this; lane 0 copies. Copies are started in the order in which the math
  // warpgroups use them, from one tile to the next without a gap: the next tile's Q and last block
  // of K come before this tile's last block of V, since their buffers get free before it.
  static __device__ void produce(const Sm90ForwardArgs& args, Shared& shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const bool leader = lane == 0;
    Sm90QRing q;
    Sm90KvRing k{0}, v{1};
    uint32_t tail_parity = 0;
    if (leader) {
      ptx::prefetch_tensormap(&args.q);
      ptx::prefetch_tensormap(&args.k);
      ptx::prefetch_tensormap(&args.v);
      ptx::prefetch_tensormap(&args.o);
    }

    const auto load_k = [&](const Sm90Work& work, int block) {
      const uint32_t stage = k.stage();
      ptx::mbarrier_wait(shared_address(&shared.kv_empty[stage]), k.parity() ^ 1);
      if (leader) load(shared.kv[stage], args.k, work.tile, block, shared.kv_full[stage]);
      k.next();
    };
    // Rows of V at or past the length may hold NaN, and 0 x NaN is NaN: they are set to 0 in
    // shared memory. The tensor's own end needs no such care, TMA fills with 0 beyond it.
    const auto load_v = [&](const Sm90Work& work, int block, int keys) {
      const uint32_t stage = v.stage();
      const bool clear_tail = keys < min(args.forward.s_kv - block * kSm90TileKv, kSm90TileKv);
      uint64_t& full = clear_tail ? shared.v_tail : shared.kv_full[stage];
      ptx::mbarrier_wait(shared_address(&shared.kv_empty[stage]), v.parity() ^ 1);
      if (leader) load(shared.kv[stage], args.v, work.tile, block, full);
      if (clear_tail) {
        ptx::mbarrier_wait(shared_address(&shared.v_tail), tail_parity);
        tail_parity ^= 1;
        constexpr int kChunks = kSm90PanelBytes / 16, kLanes = kSm90Panels * kChunks;  // of a row
        const int panel = lane / kChunks % kSm90Panels;
        for (int key = keys + lane / kLanes; key < kSm90TileKv; key += 32 / kLanes)
          reinterpret_cast<uint4*>(shared.kv[stage][panel][key])[lane % kChunks] = uint4{};
        ptx::fence_proxy_async();
        __syncwarp();
        if (leader) ptx::mbarrier_arrive(shared_address(&shared.kv_full[stage]));
      }
      v.next();
    };

    int number = static_cast<int>(blockIdx.x);
    // V is loaded one step behind K: its block, or -1 for none, and its keys before the length.
    int v_block = -1, v_keys = 0;
    for (bool end = false; !end;) {
      end = number >= args.tiles;
      const uint32_t stage = q.stage();
      ptx::mbarrier_wait(shared_address(&shared.q_empty[stage]), q.parity() ^ 1);
      Sm90Work& work = shared.work[stage];
      const Sm90Work& before = shared.work[stage ^ 1];  // the tile before, of which v_block is
      q.next();
      if (end) {
        if (leader) {
          work = {};
          work.last = -1;
          work.end = true;
        }
      } else {
        describe_tile(args, number, work);
      }
      __syncwarp();
      const int first = work.first, last = work.last, length = work.mask.length;
      if (leader && last < first)  // `work` is there, Q is not needed
        for (uint64_t& full : shared.q_full[stage]) ptx::mbarrier_arrive(shared_address(&full));
      int block = last;
#pragma unroll 1
      do {
        // Of a tile without keys, and at the end of work, neither Q nor K is loaded.
        const bool loads_q = leader && block == last && first <= last;
        if (loads_q) load_q(args, shared, stage, 0);
        if (first <= block) load_k(work, block);
        if (loads_q) load_q(args, shared, stage, 1);  // warpgroup 0 starts first
        if (v_block >= 0) load_v(block == last ? before : work, v_block, v_keys);
        v_block = first <= block ? block : -1;
        v_keys = length - block * kSm90TileKv;
      } while (--block >= first);

      // The next tile's number is taken late, when one block of V is left to load, so that thread
      // blocks take tiles in the order in which they get free: dynamic load balancing.
      number += static_cast<int>(gridDim.x);
      if (args.next_tile != nullptr) {
        if (leader) number = atomicAdd(args.next_tile, 1) + static_cast<int>(gridDim.x);
        number = __shfl_sync(0xffffffffu, number, 0);
      }
    }
  }
};

}  // namespace qkv::kernels
