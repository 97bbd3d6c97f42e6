// sm80_hard: hard attention, O = V[argmax S], index and LSE = max S, on the tensor cores of sm_80
// and later, with mma.sync m16n8k16, ldmatrix and cp.async. fp16 and bf16, d_qk any multiple of 8
// up to kDim, d_v any multiple of 8.
//
// One block of four warps computes a tile of core/scheduler.h: kTileQ rows, of one head or packed
// of several, against one split of the keys. A warp owns kTileQ / 4 rows. Q stays in registers; the
// block walks over the blocks of keys that at least one row sees, the first one first, two of them
// on their way while one is multiplied. V is read when all keys are seen: one row for each of O.
// Which lane knows what of a row's best score, and when keys are searched for:
// core/select_best.cuh.
//
// Contract (qkv.h has the rest): rows 16-byte aligned; keys at or past the length are never read;
// V is read in the chosen rows alone, and copied bit for bit; scores are compared before a scale
// above 0, which changes no order, and LSE has it; a row without a score above -inf gives O = +0,
// LSE = -inf and index -1. With more than one split the best key of each goes to the workspace. No
// result depends on tiles, packing or splits.
#pragma once

#include <cstdint>

#include "kernels/attention/sm80_hard/policy.h"
#include "kernels/core/best_key.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/hard_lse.h"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/scheduler.h"
#include "kernels/core/score.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/core/select_best.cuh"
#include "kernels/core/selected_row.cuh"
#include "kernels/core/swizzled_tile.cuh"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma.h"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

template <Type kType, int kDim, bool kRules>
struct Sm80Hard {
  using T = Element<kType>;

  static constexpr Sm80HardPolicy kPolicy = sm80_hard_policy(kDim, kRules);
  static constexpr int kTileQ = kPolicy.tile_q;
  static constexpr int kTileKv = kPolicy.tile_kv;
  static constexpr int kWarps = kSm80HardThreads / 32;
  static constexpr int kM = kTileQ / kWarps / 16;  // 16-row fragments of a warp
  static constexpr int kN = kTileKv / 8;           // 8-key fragments of S
  static constexpr int kD = kDim / 16;             // 16-dim fragments of Q
  static_assert(kPolicy.max_dim == kDim && kTileQ % (16 * kWarps) == 0 && kTileKv % 16 == 0);

  using QTile = SwizzledTile<T, kTileQ, kDim, kSm80HardThreads>;
  using KTile = SwizzledTile<T, kTileKv, kDim, kSm80HardThreads>;
  static_assert(QTile::kBytes == (kSm80HardStages - 1) * KTile::kBytes, "Q lies in all but one");
  static_assert(kSm80HardStages * KTile::kBytes == sm80_hard_smem_bytes(kPolicy));

  uint32_t rQ[kM][kD][4];

  // Fragments as core/score_fragment.cuh draws them: a lane has rows lane / 4 and + 8.
  BestKey best[kM][2];

  __device__ Sm80Hard() {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) best[m][half] = {-INFINITY, kNoKey};
  }

  __device__ void load_q(QTile sQ, int warp_row, int lane) {
    const uint32_t q0 = sQ.at(warp_row + lane % 16, lane / 16);
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int d = 0; d < kD; ++d)
        ptx::ldmatrix_x4(rQ[m][d], QTile::right_of(q0, 2 * d) + m * 16 * kDim * 2);
  }

  // rS = Q K^T for the warp's rows.
  __device__ void multiply(float (&rS)[kM][kN][4], KTile sK, int lane) const {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < kN; ++n) rS[m][n][0] = rS[m][n][1] = rS[m][n][2] = rS[m][n][3] = 0;
    const uint32_t k0 = sK.at(lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
    for (int d = 0; d < kD; ++d)
#pragma unroll
      for (int n = 0; n < kN; n += 2) {
        uint32_t k[4];
        ptx::ldmatrix_x4(k, KTile::right_of(k0, 2 * d) + n * 8 * kDim * 2);
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          ptx::mma_m16n8k16<T>(rS[m][n], rQ[m][d], k[0], k[1]);
          ptx::mma_m16n8k16<T>(rS[m][n + 1], rQ[m][d], k[2], k[3]);
        }
      }
  }

  // The four lanes of a row write it: O, index and LSE, or the split's best key for hard_combine.
  __device__ void write(const ForwardArgs& args, const TileSchedule& schedule, const WorkTile& tile,
                        int warp_row, int lane, BestKey* of_splits) const {
    const float factor = hard_lse_factor(kRules, args.scale);
#pragma unroll 1
    for (int n = 0; n < 2 * kM; ++n) {  // one after the other: the code is there once
      BestKey of_row = best[0][0];
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          if (n == 2 * m + half) of_row = best[m][half];
      const int row = warp_row + n * 8 + lane / 4;
      if (row >= tile.rows) return;
      const int i = schedule.query(tile.row + row);
      const int head = tile.head + schedule.member(tile.row + row, i);
      if (schedule.splits == 1)
        write_selected(args, sizeof(T), of_row, factor, {tile.batch, head, tile.head_kv, i},
                       lane % 4, 4);
      else if (lane % 4 == 0)
        of_splits[Partials::row(args, tile.split, tile.batch, head, i)] = of_row;
    }
  }
};

template <Type kType, int kDim, bool kRules>
static __global__ void __launch_bounds__(kSm80HardThreads,
                                         sm80_hard_policy(kDim, kRules).min_blocks)
    sm80_hard(const __grid_constant__ ForwardArgs args,
              const __grid_constant__ TileSchedule schedule, BestKey* of_splits) {
  using Kernel = Sm80Hard<kType, kDim, kRules>;
  using T = typename Kernel::T;
  using KTile = typename Kernel::KTile;
  constexpr int kTileKv = Kernel::kTileKv, kM = Kernel::kM, kN = Kernel::kN;
  extern __shared__ __align__(128) unsigned char smem[];

  // Setup.
  const WorkTile tile = work_tile(schedule, blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * (16 * kM);
  const KeyMask mask = key_mask(args, tile.batch);
  const TileKeys keys_of_tile = tile_keys(schedule, mask, tile.row, tile.rows);
  const KeyRange keys = keys_of_split(schedule, keys_of_tile.visible, tile.split);
  const ScoreRules<T> rules(args, mask, tile.batch, tile.head);
  const bool scales = !kRules && !(args.scale > 0);
  const T* gK =
      static_cast<const T*>(args.k.data) + tile.batch * args.k.batch + tile.head_kv * args.k.head;

  // Stages of K; at first Q lies in all but the first.
  const uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(smem));
  constexpr uint32_t kStages = kSm80HardStages * KTile::kBytes;
  const auto next = [](uint32_t stage) {
    return stage + KTile::kBytes == kStages ? 0 : stage + KTile::kBytes;
  };
  // A group for each step, also where nothing is left to copy: waits count groups.
  const auto copy_k = [&](uint32_t stage, int j0) {
    if (j0 < keys.end)
      KTile{base + stage}.copy(gK + j0 * args.k.row, args.k.row, mask.length - j0, args.d_qk);
    ptx::cp_async_commit_group();
  };

  // Invariant after each block of keys, per row: the quad knows the best score, and the lowest of
  // its lanes' keys is the first that has it.
  Kernel state;
  const int row = tile.row + warp_row + lane / 4;  // the lane's first
  if (keys.begin < keys.end) {
    int j0 = keys.begin / kTileKv * kTileKv;
    const typename Kernel::QTile sQ{base + KTile::kBytes};
    const T* gQ =
        static_cast<const T*>(args.q.data) + tile.batch * args.q.batch + tile.head * args.q.head;
    sQ.copy_rows(
        [&](int r) {
          const int i = schedule.query(tile.row + r), member = schedule.member(tile.row + r, i);
          return gQ + member * args.q.head + i * args.q.row;
        },
        tile.rows, args.d_qk);
    ptx::cp_async_commit_group();
    copy_k(0, j0);
    ptx::cp_async_wait_group<1>();
    __syncthreads();  // Q is there
    state.load_q(sQ, warp_row, lane);
    __syncthreads();  // all warps have read Q
    copy_k(KTile::kBytes, j0 + kTileKv);
    for (uint32_t stage = 0; j0 < keys.end; j0 += kTileKv, stage = next(stage)) {
      ptx::cp_async_wait_group<1>();
      __syncthreads();  // K is there; all warps have read the block before
      copy_k(next(next(stage)), j0 + 2 * kTileKv);
      float rS[kM][kN][4];
      state.multiply(rS, KTile{base + stage}, lane);

      const int j = j0 + lane % 4 * 2;  // the lane's first key
      if constexpr (kRules) {
#pragma unroll
        for (int m = 0; m < kM; ++m)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int r = row + m * 16 + half * 8;
            const int i = schedule.query(r), member = schedule.member(r, i);
            const KeyRange visible = r < schedule.rows ? mask.keys(i) : KeyRange{0, 0};
            apply_rules(rS[m], half, rules, visible, args.scale, j, i, member);
          }
      } else {
        if (scales) {
#pragma unroll
          for (int m = 0; m < kM; ++m)
#pragma unroll
            for (int n = 0; n < kN; ++n)
#pragma unroll
              for (int x = 0; x < 4; ++x) rS[m][n][x] *= args.scale;
        }
        // Opaque: the bounds of mask and rows are computed again here, in the few blocks that need
        // them, instead of held in registers across the loop.
        if (j0 < keys_of_tile.unmasked.begin || keys_of_tile.unmasked.end - j0 < kTileKv) {
          const KeyMask again = key_mask_of_length(args, ptx::opaque(mask.length));
#pragma unroll
          for (int m = 0; m < kM; ++m)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const int r = ptx::opaque(row) + m * 16 + half * 8;
              apply_mask(rS[m], half, again.keys(schedule.query(r)), j);
            }
        }
      }
      select_best(rS, state.best, j);
    }
  }
  reduce_lanes(state.best);
  const WorkTile again = work_tile(schedule, static_cast<uint32_t>(ptx::opaque(blockIdx.x)));
  const int thread = ptx::opaque(static_cast<int>(threadIdx.x));
  state.write(args, schedule, again, thread / 32 * (16 * kM), thread % 32, of_splits);
}

}  // namespace qkv::kernels
