// sm80_top_k: top-k selection, O = softmax over a row's k best scores times their rows of V, with
// their keys and scores, on the tensor cores of sm_80 and later, with mma.sync m16n8k16, ldmatrix
// and cp.async. fp16 and bf16, d_qk any multiple of 8 up to kDim, d_v any multiple of 8.
//
// One block of four warps computes a tile of core/scheduler.h: kTileQ rows, of one head or packed
// of several, against one split of the keys. A warp owns kTileQ / 4 rows. Q stays in registers; the
// block walks over the blocks of keys that at least one row sees, the first one first, two of them
// on their way while one is multiplied. V is read when all keys are seen, in the chosen rows.
//
// Each row has a list of its best keys in shared memory, and the score that a key has to beat, the
// bar, in the registers of its four lanes. A block of keys without a score above a bar costs a
// maximum of a lane's scores and a vote. Keys that are above it wait beside the list until there is
// no room for more; then the warp puts all of a row's into its list at once, and the bar rises.
//
// Contract (qkv.h has the rest): rows 16-byte aligned; keys at or past the length are never read;
// V is read in the chosen rows alone; weights are not rounded before P V; a row without a score
// above -inf gives O = +0 and LSE = -inf. With more than one split each one's list goes to the
// workspace. No result depends on tiles, packing or splits.
#pragma once

#include <cstdint>

#include "kernels/attention/sm80_top_k/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/scheduler.h"
#include "kernels/core/score.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/core/swizzled_tile.cuh"
#include "kernels/core/top_k_args.h"
#include "kernels/core/top_list.cuh"
#include "kernels/core/top_row.cuh"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/max_nan.h"
#include "kernels/ptx/mma.h"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

template <Type kType, int kDim, bool kRules>
struct Sm80TopK {
  using T = Element<kType>;
  static constexpr unsigned kWarp = 0xffffffffu;

  static constexpr Sm80TopKPolicy kPolicy = sm80_top_k_policy(kDim, kRules);
  static constexpr int kTileQ = kPolicy.tile_q;
  static constexpr int kTileKv = kSm80TopKTileKv;
  static constexpr int kWarps = kSm80TopKThreads / 32;
  static constexpr int kM = kTileQ / kWarps / 16;  // 16-row fragments of a warp
  static constexpr int kN = kTileKv / 8;           // 8-key fragments of S
  static constexpr int kD = kDim / 16;             // 16-dim fragments of Q
  static_assert(kPolicy.max_dim == kDim && kTileQ % (16 * kWarps) == 0 && kTileKv % 16 == 0);
  static_assert(kN == 4, "a lane has 8 scores of a row");

  using QTile = SwizzledTile<T, kTileQ, kDim, kSm80TopKThreads>;
  using KTile = SwizzledTile<T, kTileKv, kDim, kSm80TopKThreads>;
  static_assert(kSm80TopKStages * KTile::kBytes == sm80_top_k_stage_bytes(kPolicy));
  static_assert(KTile::kBytes + QTile::kBytes <= sm80_top_k_smem_bytes(kPolicy, 1));

  uint32_t rQ[kM][kD][4];

  // Fragments as core/score_fragment.cuh draws them: a lane has rows lane / 4 and + 8. What belongs
  // to a row is the same in its four lanes.
  float bar[kM][2];
  int waiting[kM][2];  // keys beside the list

  RankedKey* lists;  // of the warp's rows
  int k;
  float factor;  // makes scores of what is compared; above 0

  // Of the warp's rows `rows` exist: those behind them, which score 0 or NaN, need no lists.
  __device__ Sm80TopK(RankedKey* lists, int k, float factor, int rows, int lane)
      : lists(lists), k(k), factor(factor) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        bar[m][half] = m * 16 + half * 8 + lane / 4 < rows ? -INFINITY : INFINITY;
        waiting[m][half] = 0;
      }
  }

  // Of the warp's rows number `row`.
  __device__ TopList list_of(int row) const { return {lists + row * top_list_places(k), k}; }

  // No keys in any list. They lie where Q was.
  __device__ void clear(int lane) const {
    for (int n = lane; n < 16 * kM * top_list_places(k); n += 32) lists[n] = 0;
    __syncwarp();
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
        uint32_t b[4];
        ptx::ldmatrix_x4(b, KTile::right_of(k0, 2 * d) + n * 8 * kDim * 2);
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          ptx::mma_m16n8k16<T>(rS[m][n], rQ[m][d], b[0], b[1]);
          ptx::mma_m16n8k16<T>(rS[m][n + 1], rQ[m][d], b[2], b[3]);
        }
      }
  }

  // Whether a key may belong into a list: lists know it exactly. -inf never does.
  static __device__ bool passes(float score, float bar) { return !(score <= bar); }

  // The best of a lane's scores of one row; NaN if one of them is.
  __device__ float best_score(const float (&rS)[kN][4], int half) const {
    float s = ptx::max_nan(rS[0][half * 2], rS[0][half * 2 + 1]);
#pragma unroll
    for (int n = 1; n < kN; ++n)
      s = ptx::max_nan(s, ptx::max_nan(rS[n][half * 2], rS[n][half * 2 + 1]));
    return s * factor;
  }

  // One more block of keys; `key` is the lane's first.
  __device__ void select(const float (&rS)[kM][kN][4], int key, int lane) {
    float s[kM][2];
    bool any = false;
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        s[m][half] = best_score(rS[m], half);
        any = any || passes(s[m][half], bar[m][half]);
      }
    if (!__any_sync(kWarp, any)) return;
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        if (__any_sync(kWarp, passes(s[m][half], bar[m][half]))) collect(rS[m], m, half, key, lane);
  }

  // The lane's scores of a row above the bar, a bit each.
  __device__ uint32_t above(const float (&rS)[kN][4], int half, float bar) const {
    uint32_t bits = 0;
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 2; ++x)
        if (passes(rS[n][half * 2 + x] * factor, bar)) bits |= 1u << (n * 2 + x);
    return bits;
  }

  // The keys of eight rows that are above their bars, to those that wait.
  __device__ void collect(const float (&rS)[kN][4], int m, int half, int key, int lane) {
    uint32_t bits = above(rS, half, bar[m][half]);
    int before = 0;  // of this row, by the lanes before this one
    int of_row = count_row(bits, lane, &before);
    const unsigned full = __ballot_sync(kWarp, waiting[m][half] + of_row > kTopPending);
    if (full != 0) {
      merge(full, m, half, lane);
      bits = above(rS, half, bar[m][half]);
      of_row = count_row(bits, lane, &before);
    }
    RankedKey* to = list_of(m * 16 + half * 8 + lane / 4).pending() + waiting[m][half] + before;
    waiting[m][half] += of_row;
    for (; bits != 0; bits &= bits - 1) {
      const int n = __ffs(static_cast<int>(bits)) - 1;
      *to++ = ranked_key(nth_score(rS, half, n) * factor, key + n / 2 * 8 + n % 2);
    }
  }

  // Bits of the row's four lanes, and of those before this one.
  static __device__ int count_row(uint32_t bits, int lane, int* before) {
    const int mine = __popc(bits);
    const int beside = __shfl_xor_sync(kWarp, mine, 1);
    const int others = __shfl_xor_sync(kWarp, mine + beside, 2);
    *before = (lane % 2 == 0 ? 0 : beside) + (lane / 2 % 2 == 0 ? 0 : others);
    return mine + beside + others;
  }

  static __device__ float nth_score(const float (&rS)[kN][4], int half, int n) {
    float of_pair[kN];
#pragma unroll
    for (int i = 0; i < kN; ++i) of_pair[i] = n % 2 == 0 ? rS[i][half * 2] : rS[i][half * 2 + 1];
    const float low = n / 2 % 2 == 0 ? of_pair[0] : of_pair[1];
    const float high = n / 2 % 2 == 0 ? of_pair[2] : of_pair[3];
    return n / 4 == 0 ? low : high;
  }

  // Puts what waits into the lists of the rows among these eight whose lanes are in `of_lanes`.
  __device__ void merge(unsigned of_lanes, int m, int half, int lane) {
#pragma unroll 1
    for (unsigned left = of_lanes & 0x11111111u; left != 0; left &= left - 1) {
      const int first = __ffs(static_cast<int>(left)) - 1;  // of the row's lanes
      const TopList list = list_of(m * 16 + half * 8 + first / 4);
      list.merge(__shfl_sync(kWarp, waiting[m][half], first), lane);
      if (lane / 4 != first / 4) continue;
      waiting[m][half] = 0;
      // Of a list full of NaN no score is above it: of numbers there is none above +inf.
      bar[m][half] = fminf(list.bar(), INFINITY);
    }
  }

  // All that waits, once all keys are seen.
  __device__ void merge_all(int lane) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        merge(__ballot_sync(kWarp, waiting[m][half] > 0), m, half, lane);
  }

  // The four lanes of a row write it: its results, or the split's list for top_k_combine.
  __device__ void write(const ForwardArgs& args, const TopKArgs& top, const TileSchedule& schedule,
                        const WorkTile& tile, int warp_row, int lane, RankedKey* of_splits) const {
#pragma unroll 1
    for (int n = 0; n < 2 * kM; ++n) {
      const int row = warp_row + n * 8 + lane / 4;
      const bool exists = row < tile.rows;
      const int i = schedule.query(tile.row + row);
      const int head = tile.head + schedule.member(tile.row + row, i);
      const TopList list = list_of(n * 8 + lane / 4);
      if (schedule.splits == 1) {
        const TopRow<T> result{args, top, {tile.batch, head, tile.head_kv, i}, lane % 4, 4};
        result.write(list, exists);
      } else if (exists) {
        RankedKey* to = of_splits + Partials::row(args, tile.split, tile.batch, head, i) * k;
        for (int at = lane % 4; at < k; at += 4) to[at] = list.keys[at];
      }
    }
  }
};

template <Type kType, int kDim, bool kRules>
static __global__ void __launch_bounds__(kSm80TopKThreads,
                                         sm80_top_k_policy(kDim, kRules).min_blocks)
    sm80_top_k(const __grid_constant__ ForwardArgs args, const __grid_constant__ TopKArgs top,
               const __grid_constant__ TileSchedule schedule, RankedKey* of_splits) {
  using Kernel = Sm80TopK<kType, kDim, kRules>;
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
  const bool scales_all = !kRules && !(args.scale > 0);
  const T* gK =
      static_cast<const T*>(args.k.data) + tile.batch * args.k.batch + tile.head_kv * args.k.head;

  // Stages of K, then the lists; at first Q lies in all but the first stage.
  const uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(smem));
  constexpr uint32_t kStages = kSm80TopKStages * KTile::kBytes;
  const auto next = [](uint32_t stage) {
    return stage + KTile::kBytes == kStages ? 0 : stage + KTile::kBytes;
  };
  // A group for each step, also where nothing is left to copy: waits count groups.
  const auto copy_k = [&](uint32_t stage, int j0) {
    if (j0 < keys.end)
      KTile{base + stage}.copy(gK + j0 * args.k.row, args.k.row, mask.length - j0, args.d_qk);
    ptx::cp_async_commit_group();
  };

  // Invariant after each block of keys, per row: its best k so far are in its list or wait beside
  // it, and none that scores at most the bar is missing from there.
  Kernel state(reinterpret_cast<RankedKey*>(smem + kStages) + warp_row * top_list_places(top.k),
               top.k, kRules || scales_all ? 1 : args.scale, tile.rows - warp_row, lane);
  const int row = tile.row + warp_row + lane / 4;  // the lane's first
  if (keys.begin >= keys.end) {
    state.clear(lane);
  } else {
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
    state.clear(lane);
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
        if (scales_all) {
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
      state.select(rS, j, lane);
    }
  }
  state.merge_all(lane);
  const WorkTile again = work_tile(schedule, static_cast<uint32_t>(ptx::opaque(blockIdx.x)));
  const int thread = ptx::opaque(static_cast<int>(threadIdx.x));
  state.write(args, top, schedule, again, thread / 32 * (16 * kM), thread % 32, of_splits);
}

}  // namespace qkv::kernels
