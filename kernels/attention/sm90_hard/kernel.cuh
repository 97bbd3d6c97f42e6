// sm90_hard: hard attention, O = V[argmax S], index and LSE = max S, on Hopper, with TMA, mbarriers
// and wgmma. fp16 and bf16, d_qk any multiple of 8 up to kSm90HardMaxDim, d_v any multiple of 8.
//
// A thread block stays on its multiprocessor and computes one tile of kSm90HardTileQ query rows, of
// one head or packed of several, against one split of the keys after the other (persistent kernel).
// A producer thread copies Q and K by TMA; three math warpgroups own kSm90HardRows rows each. Each
// walks over the blocks of keys by itself, the first one first: while one of them looks for the
// best of its scores, the others' products are on the tensor cores. V is read when all keys are
// seen: one row for each of O. Of the next tile Q and K are on their way meanwhile.
//
// Which lane knows what of a row's best score, and when keys are searched for:
// core/select_best.cuh.
//
// Contract (qkv.h has the rest): maps describe q and k; keys at or past the length never take part,
// whatever they hold; rows of V and O are 16-byte aligned, V is read in the chosen rows alone, and
// copied bit for bit; scores are compared before a scale above 0, which changes no order, and LSE
// has it; a row without a score above -inf gives O = +0, LSE = -inf and index -1. With more than
// one split the best key of each goes to the workspace. No result depends on tiles, packing or
// splits.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_hard/producer.cuh"
#include "kernels/attention/sm90_hard/shared.cuh"
#include "kernels/core/best_key.h"
#include "kernels/core/hard_lse.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/core/select_best.cuh"
#include "kernels/core/selected_row.cuh"
#include "kernels/ptx/opaque.h"
#include "kernels/ptx/wgmma.h"

namespace qkv::kernels {

// A math warpgroup's way through the tiles. All of it is inlined, so that members are registers.
//
// Invariant after each block of keys, per row: the quad knows the best score, and the lowest of its
// lanes' keys is the first that has it.
template <Type kType, int kDim>
struct Sm90Hard {
  using T = Element<kType>;
  using Shared = Sm90HardShared<T, kDim>;
  static constexpr int kTileKv = kSm90HardTileKv;
  static constexpr int kN = kTileKv / 8;
  static_assert(kSm90HardRows == 64 && kDim % 16 == 0, "wgmma m64nNk16");

  const Sm90HardArgs& args;
  Shared& shared;
  const int warpgroup;
  const int lane;
  typename Shared::QRing q;
  typename Shared::KRing k;
  BestKey best[1][2];  // of rows lane / 4 and + 8 of the warp's
  float rS[1][kN][4];  // the same, as core/score_fragment.cuh draws it
  int first, last;     // the blocks of keys that the warpgroup's rows see; none if last < first
  KeyRange unmasked;   // what each of them sees

  __device__ Sm90Hard(const Sm90HardArgs& args, Shared& shared, int warpgroup)
      : args(args),
        shared(shared),
        warpgroup(warpgroup),
        lane(static_cast<int>(threadIdx.x) % 32) {}

  __device__ const Sm90HardWork& work() const { return shared.work[q.stage]; }
  __device__ int warp_row() const {
    return static_cast<int>(threadIdx.x) / 32 * kSm90HardWarpRows;  // in the tile
  }

  template <class Ring>
  __device__ void release(Ring& ring, uint64_t* empty) {
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(shared_address(&empty[ring.stage]));
    ring.next();
  }

  __device__ void begin_tile() {
#pragma unroll
    for (BestKey& of_row : best[0]) of_row = {-INFINITY, kNoKey};
    const WorkTile& tile = work().tile;
    const int row = warpgroup * kSm90HardRows, rows = min(tile.rows - row, kSm90HardRows);
    first = 0, last = -1;
    if (rows <= 0) return;
    const TileKeys own = tile_keys(args.schedule, work().mask, tile.row + row, rows);
    unmasked = own.unmasked;
    const int begin = max(own.visible.begin, work().keys.begin);
    const int end = min(own.visible.end, work().keys.end);
    if (begin >= end) return;
    first = begin / kTileKv;
    last = (end - 1) / kTileKv;
  }

  // rS = Q K^T for the block whose K is in the ring's stage. Descriptors count in units of 16
  // bytes.
  __device__ void multiply() {
    constexpr uint32_t kEightRows = 8 * kSm90HardPanelBytes;  // the swizzle's period
    constexpr int kSteps = kSm90HardPanel / 16;               // of 16 dims in a panel
    constexpr int kStep = kSm90HardPanelBytes / kSteps / 16;  // to the next 16 dims
    constexpr int kQPanel = sizeof shared.q[0][0][0] / 16;    // to the next panel of Q
    constexpr int kKPanel = sizeof shared.k[0][0] / 16;       // of K
    const uint64_t panels = ptx::wgmma_descriptor(0, kEightRows);
    const uint64_t sQ = ptx::wgmma_at(panels, shared_address(shared.q[q.stage][warpgroup]));
    const uint64_t sK = ptx::wgmma_at(panels, shared_address(shared.k[k.stage]));
    auto& scores = reinterpret_cast<float(&)[kTileKv / 2]>(rS);
    ptx::wgmma_fence();
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      const uint64_t q_d = sQ + d / kSteps * kQPanel + d % kSteps * kStep;
      const uint64_t k_d = sK + d / kSteps * kKPanel + d % kSteps * kStep;
      if (d == 0)
        ptx::wgmma<T, kTileKv, false>(scores, q_d, k_d);
      else
        ptx::wgmma<T, kTileKv, true>(scores, q_d, k_d);
    }
    ptx::wgmma_commit_group();
    ptx::wgmma_wait_group<0>(scores);
  }

  // Opaque: rows and bounds are computed again here, in the few blocks that need them, instead of
  // held in registers across the loop.
  __device__ void mask_block(int block) {
    const int row = ptx::opaque(work().tile.row + warp_row()) + lane / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half)
      apply_mask(rS[0], half, work().mask.keys(args.schedule.query(row + half * 8)),
                 block * kTileKv + lane % 4 * 2);
  }

  __device__ void select(int block) {
    if (!(args.forward.scale > 0)) {
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (float& s : rS[0][n]) s *= args.forward.scale;
    }
    if (block * kTileKv < unmasked.begin || unmasked.end - block * kTileKv < kTileKv)
      mask_block(block);
    select_best(rS, best, block * kTileKv + lane % 4 * 2);
  }

  // The four lanes of a row write it: O, index and LSE, or the split's best key for hard_combine.
  __device__ void write(const WorkTile& tile) const {
    const float factor = hard_lse_factor(false, args.forward.scale);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row() + half * 8 + lane / 4;
      if (row >= tile.rows) return;
      const int i = args.schedule.query(tile.row + row);
      const int head = tile.head + args.schedule.member(tile.row + row, i);
      if (args.schedule.splits == 1)
        write_selected<4>(args.forward, sizeof(T), best[0][half], factor,
                          {tile.batch, head, tile.head_kv, i}, lane % 4, 4);
      else if (lane % 4 == 0)
        args.of_splits[Partials::row(args.forward, tile.split, tile.batch, head, i)] =
            best[0][half];
    }
  }

  __device__ void run() {
    for (;;) {
      ptx::mbarrier_wait(shared_address(&shared.q_full[q.stage]), q.parity);
      if (work().end) return;
      begin_tile();
      const int end = work().last;
#pragma unroll 1
      for (int block = work().first; block <= end; ++block) {
        ptx::mbarrier_wait(shared_address(&shared.k_full[k.stage]), k.parity);
        const bool seen = first <= block && block <= last;
        if (seen) multiply();
        release(k, shared.k_empty);
        if (seen) select(block);
      }
      reduce_lanes(best);
      const WorkTile tile = work().tile;
      release(q, shared.q_empty);
      write(tile);
    }
  }
};

template <Type kType, int kDim>
static __global__ void __launch_bounds__(kSm90HardThreads, 1)
    sm90_hard(const __grid_constant__ Sm90HardArgs args) {
  using Kernel = Sm90Hard<kType, kDim>;
  using Shared = typename Kernel::Shared;
  static_assert(sizeof(Shared) <= sm90_hard_shape(kDim)->smem_bytes());
  extern __shared__ __align__(1024) unsigned char smem[];
  Shared& shared = *reinterpret_cast<Shared*>(smem);

  const int warpgroup =
      __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kSm90HardWarpgroupThreads, 0);
  if (threadIdx.x == 0) shared.init_barriers();
  __syncthreads();

  if (warpgroup < kSm90HardWarpgroups)
    Kernel(args, shared, warpgroup).run();
  else if (threadIdx.x == kSm90HardMathWarps * 32)
    Sm90HardProducer<Element<kType>, kDim>{args, shared, {}, {}}.run();
}

}  // namespace qkv::kernels
