// sm90_forward's producer: one warp that describes the tiles and copies Q, K and V by TMA.
#pragma once

#include "kernels/attention/sm90_forward/shared.cuh"

namespace qkv::kernels {

template <class T, int kDimQk, int kDimV, bool kRules>
struct Sm90Producer {
  using Shared = Sm90Shared<T, kDimQk, kDimV, kRules>;
  using Work = typename Shared::Work;
  using KvPanel = typename Shared::KvPanel;
  static constexpr Sm90Shape kShape = Shared::kShape;
  static constexpr int kTileKv = kShape.tile_kv;
  static constexpr bool kOneQ = kShape.q_stages == 1;

  // Describes tile `number` in `work`, for the math warpgroups. The whole warp runs this.
  static __device__ void describe_tile(const Sm90ForwardArgs& args, int number, Work& work) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const WorkTile at = work_tile(args.schedule, static_cast<uint32_t>(number));
    const KeyMask mask = key_mask(args.forward, at.batch);
    const KeyRange keys = keys_of_split(
        args.schedule, tile_keys(args.schedule, mask, at.row, at.rows).visible, at.split);
    // Lane w computes for the rows of warpgroup w.
    const int w = lane % 4;
    const int rows = w < kShape.warpgroups ? min(at.rows - w * kSm90Rows, kSm90Rows) : 0;
    TileKeys of_rows{};
    if (rows > 0) of_rows = tile_keys(args.schedule, mask, at.row + w * kSm90Rows, rows);
    of_rows.visible = {max(of_rows.visible.begin, keys.begin), min(of_rows.visible.end, keys.end)};
    const bool has_keys = of_rows.visible.begin < of_rows.visible.end;
    int begin = has_keys ? of_rows.visible.begin : INT32_MAX;
    int end = has_keys ? of_rows.visible.end : 0;
#pragma unroll
    for (int other = 1; other <= 2; other *= 2) {
      begin = min(begin, __shfl_xor_sync(0xffffffffu, begin, other));
      end = max(end, __shfl_xor_sync(0xffffffffu, end, other));
    }
    const int first = end > 0 ? begin / kTileKv : 0;
    const int last = end > 0 ? (end - 1) / kTileKv : -1;
    if (lane < kShape.warpgroups) {
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

  // The last block that the mask shows to a row of the tile, of those up to `block`; -1: none. The
  // whole warp runs this.
  static __device__ int last_shown(const Sm90ForwardArgs& args, const Work& work, int block) {
    const int first = work.first;
    if (args.summary.visible == nullptr) return block >= first ? block : -1;
    const unsigned char* const shown =
        args.summary.of(work.tile.batch, set_of(args, work.tile), work.tile.row / kShape.tile_q());
    for (; block >= first; block -= 32) {
      const int own = block - static_cast<int>(threadIdx.x) % 32;
      const uint32_t bits = __ballot_sync(0xffffffffu, own >= first && shown[own] != 0);
      if (bits != 0) return block + 1 - __ffs(static_cast<int>(bits));
    }
    return -1;
  }

  // Starts copying the rows of Q of warpgroup w of the tile that `work` describes. One lane.
  static __device__ void load_q(const Sm90ForwardArgs& args, Shared& shared, const WorkTile& at,
                                uint32_t stage, int w) {
    uint64_t& full = shared.q_full[stage][w];
    ptx::mbarrier_arrive_expect_tx(shared_address(&full), sizeof shared.q[0][0]);
    for (int panel = 0; panel < kShape.panels_qk(); ++panel)
      ptx::cp_async_bulk_tensor_load(
          shared_address(shared.q[stage][w][panel]), &args.q,
          {panel * kSm90Panel, 0, args.schedule.query(at.row + w * kSm90Rows), set_of(args, at),
           at.batch},
          shared_address(&full), ptx::kEvictFirst);
  }

  // Starts copying a block of K or V; its bytes complete a phase of `barrier`. One lane.
  template <int kPanels>
  static __device__ void load(KvPanel* panels, const CUtensorMap& map, const WorkTile& at,
                              int block, uint64_t& barrier) {
    ptx::mbarrier_arrive_expect_tx(shared_address(&barrier), kPanels * sizeof(KvPanel));
    for (int panel = 0; panel < kPanels; ++panel)
      ptx::cp_async_bulk_tensor_load(shared_address(panels[panel]), &map,
                                     {panel * kSm90Panel, 0, block * kTileKv, at.head_kv, at.batch},
                                     shared_address(&barrier), ptx::kEvictLast);
  }

  // The whole warp runs this; lane 0 copies. Copies are started in the order in which the math
  // warpgroups use them, from one tile to the next without a gap: the next tile's Q and last block
  // of K come before this tile's last block of V, since their buffers get free before it.
  static __device__ void produce(const Sm90ForwardArgs& args, Shared& shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const bool leader = lane == 0;
    typename Shared::QRing q;
    typename Shared::KvRing k{0}, v{1};
    uint32_t tail_parity = 0;
    if (leader) {
      ptx::prefetch_tensormap(&args.q);
      ptx::prefetch_tensormap(&args.k);
      ptx::prefetch_tensormap(&args.v);
      ptx::prefetch_tensormap(&args.o);
    }

    const auto load_k = [&](const Work& work, int block, [[maybe_unused]] int next) {
      const uint32_t stage = k.stage();
      ptx::mbarrier_wait(shared_address(&shared.kv_empty[stage]), k.parity() ^ 1);
      if (kRules && leader) shared.next_block[stage] = next;
      if (leader)
        load<kShape.panels_qk()>(shared.kv(stage), args.k, work.tile, block, shared.kv_full[stage]);
      k.next();
    };
    // Rows of V at or past the length may hold NaN, and 0 x NaN is NaN: they are set to 0 in
    // shared memory. The tensor's own end needs no such care, TMA fills with 0 beyond it.
    const auto load_v = [&](const Work& work, int block, int keys) {
      const uint32_t stage = v.stage();
      const bool clear_tail = keys < min(args.forward.s_kv - block * kTileKv, kTileKv);
      uint64_t& full = clear_tail ? shared.v_tail : shared.kv_full[stage];
      ptx::mbarrier_wait(shared_address(&shared.kv_empty[stage]), v.parity() ^ 1);
      if (leader) load<kShape.panels_v()>(shared.kv(stage), args.v, work.tile, block, full);
      if (clear_tail) {
        ptx::mbarrier_wait(shared_address(&shared.v_tail), tail_parity);
        tail_parity ^= 1;
        constexpr int kChunks = kSm90PanelBytes / 16,
                      kLanes = kShape.panels_v() * kChunks;  // of a row
        const int panel = lane / kChunks % kShape.panels_v();
        for (int key = keys + lane / kLanes; key < kTileKv; key += 32 / kLanes)
          reinterpret_cast<uint4*>(shared.kv(stage)[panel][key])[lane % kChunks] = uint4{};
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
      const auto wait_for_q = [&] {
        ptx::mbarrier_wait(shared_address(&shared.q_empty[stage]), q.parity() ^ 1);
      };
      // With one buffer of Q the tile before is under way yet, which has the other `work`.
      if constexpr (!kOneQ) wait_for_q();
      Work& work = shared.work[q.work()];
      const Work& before = shared.work[q.work() ^ 1];  // the tile before, of which v_block is
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
      if (kRules && args.summary.visible != nullptr) {
        const int shown = last_shown(args, work, work.last);
        __syncwarp();
        if (leader) work.last = shown;
        __syncwarp();
      }
      const int first = work.first, last = work.last, length = work.mask.length;
      // Q of a warpgroup; of a tile without keys, and at the end of work, only `work` is there.
      const auto send_q = [&](int w) {
        if (first <= last)
          load_q(args, shared, work.tile, stage, w);
        else
          ptx::mbarrier_arrive(shared_address(&shared.q_full[stage][w]));
      };
      int block = last;
#pragma unroll 1
      do {
        const bool begins = block == last;
        const int next = kRules ? last_shown(args, work, block - 1) : block - 1;
        if (!kOneQ && leader && begins) send_q(0);
        if (first <= block) load_k(work, block, next);
        if (!kOneQ && leader && begins)
          for (int w = 1; w < kShape.warpgroups; ++w) send_q(w);  // warpgroup 0 starts first
        if (v_block >= 0) load_v(begins ? before : work, v_block, v_keys);
        if (kOneQ && begins) {
          wait_for_q();
          if (leader)
            for (int w = 0; w < kShape.warpgroups; ++w) send_q(w);
        }
        v_block = first <= block ? block : -1;
        v_keys = length - block * kTileKv;
        block = next;
      } while (block >= first);
      q.next();

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
