// sm80_tf32x3_hard: hard attention, O = V[argmax S], index and LSE = max S, of fp32 tensors on the
// tensor cores of sm_80 and sm_90; scores are as accurate as fp32 arithmetic (core/tf32x3.cuh).
// d_qk any multiple of 4 up to kDim, d_v any multiple of 4.
//
// One block of four warps computes a tile of core/scheduler.h: kTileQ rows, of one head or packed
// of several, against one split of the keys. A warp owns 16 rows. The block walks over the blocks
// of keys that at least one row sees, the first one first, two of them on their way while one is
// multiplied. V is read when all keys are seen: one row for each of O. Which lane knows what of a
// row's best score, and when keys are searched for: core/select_best.cuh.
//
// Each thread looks through what it has copied for elements that are too small to be split; where
// there are any, the block votes for plain fp32 arithmetic, beside that of scores that are not
// finite.
//
// Contract (qkv.h has the rest): rows 16-byte aligned; keys at or past the length are never read;
// V is read in the chosen rows alone, and copied bit for bit; scores are compared before a scale
// above 0, which changes no order, and LSE has it; a row without a score above -inf gives O = +0,
// LSE = -inf and index -1. With more than one split the best key of each goes to the workspace. No
// result depends on tiles, packing or splits.
#pragma once

#include <cstdint>

#include "kernels/attention/sm80_tf32x3_hard/policy.h"
#include "kernels/core/best_key.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/hard_lse.h"
#include "kernels/core/mask.h"
#include "kernels/core/scheduler.h"
#include "kernels/core/score.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/core/select_best.cuh"
#include "kernels/core/selected_row.cuh"
#include "kernels/core/tf32x3.cuh"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

template <int kDim, bool kRules>
struct Sm80Tf32x3Hard {
  static constexpr Sm80Tf32x3HardPolicy kPolicy = sm80_tf32x3_hard_policy(kDim, kRules);
  static constexpr int kTileQ = kSm80Tf32x3HardTileQ;
  static constexpr int kTileKv = kPolicy.tile_kv;
  static_assert(kPolicy.max_dim == kDim);

  using Scores = Tf32x3Scores<kDim, kTileQ, kTileKv, kSm80Tf32x3HardThreads>;
  using QTile = typename Scores::QTile;
  using KTile = typename Scores::KTile;
  static constexpr uint32_t kStages = kSm80Tf32x3HardStages * KTile::kBytes;
  static_assert(QTile::kBytes + kStages == sm80_tf32x3_hard_smem_bytes(kPolicy));

  // The scores that are compared, from Q K^T. `row` is the lane's first in its set, `key` too.
  static __device__ void finish_scores(float (&rS)[Scores::kN][4], const ForwardArgs& args,
                                       const TileSchedule& schedule, const KeyMask& mask,
                                       const WorkTile& tile, const KeyRange& unmasked, int row,
                                       int j0, int key) {
    if constexpr (kRules) {
      // Opaque: the rules' addresses are computed again for each block of keys instead of held in
      // registers.
      const ScoreRules<float> rules(args, mask, ptx::opaque(tile.batch), ptx::opaque(tile.head));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = row + half * 8;
        const int i = schedule.query(r), member = schedule.member(r, i);
        const KeyRange visible = r < schedule.rows ? mask.keys(i) : KeyRange{0, 0};
        apply_rules(rS, half, rules, visible, args.scale, key, i, member);
      }
      return;
    }
    if (!(args.scale > 0)) {
#pragma unroll
      for (int n = 0; n < Scores::kN; ++n)
#pragma unroll
        for (int x = 0; x < 4; ++x) rS[n][x] *= args.scale;
    }
    // Opaque: the bounds of mask and rows are computed again here, in the few blocks that need
    // them, instead of held in registers across the loop.
    if (j0 < unmasked.begin || unmasked.end - j0 < kTileKv) {
      const KeyMask again = key_mask_of_length(args, ptx::opaque(mask.length));
#pragma unroll
      for (int half = 0; half < 2; ++half)
        apply_mask(rS, half, again.keys(schedule.query(ptx::opaque(row) + half * 8)), key);
    }
  }

  // The four lanes of a row write it: O, index and LSE, or the split's best key for hard_combine.
  static __device__ void write(const BestKey (&best)[2], const ForwardArgs& args,
                               const TileSchedule& schedule, const WorkTile& tile, int warp_row,
                               int lane, BestKey* of_splits) {
    const float factor = hard_lse_factor(kRules, args.scale);
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {  // one after the other: the code is there once
      const BestKey of_row = half == 0 ? best[0] : best[1];
      const int row = warp_row + half * 8 + lane / 4;
      if (row >= tile.rows) return;
      const int i = schedule.query(tile.row + row);
      const int head = tile.head + schedule.member(tile.row + row, i);
      if (schedule.splits == 1)
        write_selected(args, sizeof(float), of_row, factor, {tile.batch, head, tile.head_kv, i},
                       lane % 4, 4);
      else if (lane % 4 == 0)
        of_splits[Partials::row(args, tile.split, tile.batch, head, i)] = of_row;
    }
  }
};

template <int kDim, bool kRules>
static __global__ void __launch_bounds__(kSm80Tf32x3HardThreads,
                                         sm80_tf32x3_hard_policy(kDim, kRules).min_blocks)
    sm80_tf32x3_hard(const __grid_constant__ ForwardArgs args,
                     const __grid_constant__ TileSchedule schedule, BestKey* of_splits) {
  using Kernel = Sm80Tf32x3Hard<kDim, kRules>;
  using Scores = typename Kernel::Scores;
  using QTile = typename Kernel::QTile;
  using KTile = typename Kernel::KTile;
  constexpr int kTileKv = Kernel::kTileKv;
  extern __shared__ __align__(128) unsigned char smem[];

  // Setup.
  const WorkTile tile = work_tile(schedule, blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const KeyMask mask = key_mask(args, tile.batch);
  const TileKeys keys_of_tile = tile_keys(schedule, mask, tile.row, tile.rows);
  const KeyRange keys = keys_of_split(schedule, keys_of_tile.visible, tile.split);
  const float* gK = static_cast<const float*>(args.k.data) + tile.batch * args.k.batch +
                    tile.head_kv * args.k.head;

  const uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(smem));
  const QTile sQ{base};
  const auto next = [](uint32_t stage) {
    return stage + KTile::kBytes == Kernel::kStages ? 0 : stage + KTile::kBytes;
  };
  // A group for each step, also where nothing is left to copy: waits count groups.
  const auto copy_k = [&](uint32_t stage, int j0) {
    if (j0 < keys.end)
      KTile{base + QTile::kBytes + stage}.copy(gK + j0 * args.k.row, args.k.row, mask.length - j0,
                                               args.d_qk);
    ptx::cp_async_commit_group();
  };

  // Invariant after each block of keys, per row (the lane has lane / 4 and + 8 of its warp's): the
  // quad knows the best score, and the lowest of its lanes' keys is the first that has it.
  BestKey best[1][2] = {{{-INFINITY, kNoKey}, {-INFINITY, kNoKey}}};
  if (keys.begin < keys.end) {
    int j0 = keys.begin / kTileKv * kTileKv;
    const float* gQ = static_cast<const float*>(args.q.data) + tile.batch * args.q.batch +
                      tile.head * args.q.head;
    sQ.copy_rows(
        [&](int r) {
          const int i = schedule.query(tile.row + r), member = schedule.member(tile.row + r, i);
          return gQ + member * args.q.head + i * args.q.row;
        },
        tile.rows, args.d_qk);
    ptx::cp_async_commit_group();
    copy_k(0, j0);
    copy_k(KTile::kBytes, j0 + kTileKv);
    ptx::cp_async_wait_group<2>();
    const bool tiny_q = Scores::has_tiny(smem, QTile{0});
    for (uint32_t stage = 0; j0 < keys.end; j0 += kTileKv, stage = next(stage)) {
      ptx::cp_async_wait_group<1>();
      const KTile k_tile{QTile::kBytes + stage};  // its offset in shared memory
      const bool tiny_k = Scores::has_tiny(smem, k_tile);
      // K is there (at first Q too); all warps have read the block before.
      const bool tiny = __syncthreads_or(tiny_q || tiny_k) != 0;
      copy_k(next(next(stage)), j0 + 2 * kTileKv);
      float rS[1][Scores::kN][4];
      Scores::multiply(rS[0], sQ, KTile{base + k_tile.base}, warp_row, lane);
      Scores::repair_with_tiny(rS[0], smem, QTile{0}, k_tile, tiny);
      const int key = j0 + lane % 4 * 2;  // the lane's first
      Kernel::finish_scores(rS[0], args, schedule, mask, tile, keys_of_tile.unmasked,
                            tile.row + warp_row + lane / 4, j0, key);
      select_best(rS, best, key);
    }
  }
  reduce_lanes(best);
  const WorkTile again = work_tile(schedule, static_cast<uint32_t>(ptx::opaque(blockIdx.x)));
  const int thread = ptx::opaque(static_cast<int>(threadIdx.x));
  Kernel::write(best[0], args, schedule, again, thread / 32 * 16, thread % 32, of_splits);
}

}  // namespace qkv::kernels
