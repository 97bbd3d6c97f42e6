// sm80_forward: O = softmax(S) V and LSE on the tensor cores of sm_80 and later, with mma.sync
// m16n8k16, ldmatrix and cp.async. fp16 and bf16, d_qk and d_v any multiples of 8 up to kDim.
//
// One block of four warps computes a tile of core/scheduler.h: kTileQ rows, of one head or packed
// of several, against one split of the keys. A warp owns kTileQ / 4 rows, from scores to output. It
// walks over the blocks of keys that at least one row sees, the last one first. With two stages K
// and V of the next block are copied meanwhile; with one V of a block during Q K^T, K of the next
// one during softmax and P V. P stays in registers: the accumulators of Q K^T, rounded, are the A
// operand of P V.
//
// Contract (qkv.h has the rest): rows 16-byte aligned; keys at or past the length are never read,
// their rows in shared memory are 0; keys masked by the window get weight 0; P is rounded to the
// element type before P V, l sums the unrounded weights, O is rounded once; a row without a score
// above -inf gives O = +0 and LSE = -inf. With more than one split O and LSE go to the partials,
// not rounded; a row without keys in its split leaves LSE alone. No atomics: the result depends on
// the arguments alone, a row's on nothing but the row, its keys, the tile's width and the splits.
#pragma once

#include <cstdint>

#include "kernels/attention/sm80_forward/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/scheduler.h"
#include "kernels/core/score.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/core/swizzled_tile.cuh"
#include "kernels/ptx/griddepcontrol.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma.h"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

template <Type kType, int kDim, Sm80Variant kVariant>
struct Sm80Forward {
  using T = Element<kType>;

  static constexpr Sm80ForwardPolicy kPolicy = sm80_forward_policy(kDim, kVariant);
  static constexpr bool kRules = kVariant == Sm80Variant::kRules;
  static constexpr int kTileQ = kPolicy.tile_q;
  static constexpr int kTileKv = kPolicy.tile_kv;
  static constexpr int kStages = kPolicy.stages;
  static constexpr int kWarps = kSm80ForwardThreads / 32;
  static constexpr int kM = kTileQ / kWarps / 16;  // 16-row fragments of a warp
  static constexpr int kN = kTileKv / 8;           // 8-key fragments of S
  static constexpr int kD = kDim / 8;              // 8-column fragments of O
  static_assert(kPolicy.max_dim == kDim && kTileQ % (16 * kWarps) == 0 && kTileKv % 16 == 0);

  using QTile = SwizzledTile<T, kTileQ, kDim, kSm80ForwardThreads>;
  using KvTile = SwizzledTile<T, kTileKv, kDim, kSm80ForwardThreads>;
  static_assert(QTile::kBytes + 2 * kStages * KvTile::kBytes == sm80_forward_smem_bytes(kPolicy));

  static constexpr bool kSpareRegisters = sm80_spare_registers(kType == Type::kF16, kPolicy);

  // Fragments as core/score_fragment.cuh draws them: a lane has rows lane / 4 and + 8, columns
  // 2 (lane % 4) and + 1.
  float rO[kM][kD][4] = {};
  static constexpr int kCarry = softmax_carry(kType);
  OnlineSoftmax<kCarry> softmax[kM][2];

  // S is left unscaled where the exponential can scale it: not where a scale <= 0 would turn the
  // order of scores, and the sign of a masked score's -inf, around.
  static __device__ bool folds_scale(const ForwardArgs& args) { return !kRules && args.scale > 0; }
  static __device__ float exponent_factor(const ForwardArgs& args) {
    return folds_scale(args) ? args.scale * kLog2E : kLog2E;
  }

  // A warp's first row of the tile and a lane's number.
  static __device__ int warp_row(int thread) { return thread / 32 * (16 * kM); }
  static __device__ int lane_of(int thread) { return thread % 32; }

  // rS = Q K^T for the warp's rows.
  static __device__ void multiply_qk(float (&rS)[kM][kN][4], QTile sQ, KvTile sK, int warp_row,
                                     int lane) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < kN; ++n) rS[m][n][0] = rS[m][n][1] = rS[m][n][2] = rS[m][n][3] = 0;
    const uint32_t q0 = sQ.at(warp_row + lane % 16, lane / 16);
    const uint32_t k0 = sK.at(lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      uint32_t q[kM][4];
#pragma unroll
      for (int m = 0; m < kM; ++m)
        ptx::ldmatrix_x4(q[m], QTile::right_of(q0, 2 * d) + m * 16 * kDim * 2);
#pragma unroll
      for (int n = 0; n < kN; n += 2) {
        uint32_t k[4];
        ptx::ldmatrix_x4(k, KvTile::right_of(k0, 2 * d) + n * 8 * kDim * 2);
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          ptx::mma_m16n8k16<T>(rS[m][n], q[m], k[0], k[1]);
          ptx::mma_m16n8k16<T>(rS[m][n + 1], q[m], k[2], k[3]);
        }
      }
    }
  }

  // rS of keys [8 n, 8 n + 16) becomes P, which l adds up.
  __device__ void weigh(float (&rS)[kM][kN][4], int n, float factor, const float (&shift)[kM][2]) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          float& s = rS[m][n + x / 2][half * 2 + x % 2];
          s = ptx::ex2_approx_ftz(fmaf(s, factor, shift[m][half]));
          softmax[m][half].l += s;
        }
  }

  // rO += P V; P is rS, weighed and rounded. The exponentials of 16 keys are beside the products of
  // the 16 before them, if registers allow.
  __device__ void multiply_pv(float (&rS)[kM][kN][4], KvTile sV, int lane, float factor,
                              const float (&shift)[kM][2]) {
    const uint32_t v0 = sV.at(lane % 16, lane / 16);
#pragma unroll
    for (int n = 0; n < (kSpareRegisters ? 2 : kN); n += 2) weigh(rS, n, factor, shift);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      if (kSpareRegisters && n + 2 < kN) weigh(rS, n + 2, factor, shift);
      uint32_t p[kM][4];
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        p[m][0] = pack<T>(rS[m][n][0], rS[m][n][1]);
        p[m][1] = pack<T>(rS[m][n][2], rS[m][n][3]);
        p[m][2] = pack<T>(rS[m][n + 1][0], rS[m][n + 1][1]);
        p[m][3] = pack<T>(rS[m][n + 1][2], rS[m][n + 1][3]);
      }
#pragma unroll
      for (int d = 0; d < kD; d += 2) {
        uint32_t v[4];
        ptx::ldmatrix_x4_trans(v, KvTile::right_of(v0, d) + n * 8 * kDim * 2);
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          ptx::mma_m16n8k16<T>(rO[m][d], p[m], v[0], v[1]);
          ptx::mma_m16n8k16<T>(rO[m][d + 1], p[m], v[2], v[3]);
        }
      }
    }
  }

  // rS = -inf where a row does not see the key. `row` (of the set) and `key` are the lane's first.
  static __device__ void apply_mask(float (&rS)[kM][kN][4], const TileSchedule& schedule,
                                    const KeyMask& mask, int row, int key) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        kernels::apply_mask(rS[m], half, mask.keys(schedule.query(row + m * 16 + half * 8)), key);
  }

  // rS = the scores that the softmax sees, from Q K^T. Rows past the last see no key.
  static __device__ void apply_rules(float (&rS)[kM][kN][4], const TileSchedule& schedule,
                                     const ScoreRules<T>& rules, const KeyMask& mask, float scale,
                                     int first_row, int key) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row + m * 16 + half * 8;
        const int i = schedule.query(row), member = schedule.member(row, i);
        const KeyRange visible = row < schedule.rows ? mask.keys(i) : KeyRange{0, 0};
        kernels::apply_rules(rS[m], half, rules, visible, scale, key, i, member);
      }
  }

  // m rises to the maximum of rS, rO and l are rescaled to it. P is 2^(factor s + shift) then.
  __device__ void raise(float (&rS)[kM][kN][4], float factor, float (&shift)[kM][2]) {
    float largest = 0, rescale[kM][2];
    bool raised = false;
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        OnlineSoftmax<kCarry>& row = softmax[m][half];
        rescale[m][half] = raise_row(rS[m], half, row, factor);
        shift[m][half] = row.shift(factor);
        largest = fmaxf(largest, fabsf(row.base()));
        raised = raised || rescale[m][half] != 1;
      }
    // Large scores: see OnlineSoftmax::careful_weight.
    if (__any_sync(0xffffffffu, largest * factor >= kCoarseExponent)) {
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float base = softmax[m][half].base();
          const bool coarse = fabsf(base) * factor >= kCoarseExponent;
          if (coarse) shift[m][half] = kCarry;
#pragma unroll
          for (int n = 0; n < kN; ++n)
#pragma unroll
            for (int x = 0; x < 2; ++x) rS[m][n][half * 2 + x] -= coarse ? base : 0.0f;
        }
    }
    // A product with 1 leaves the bits alone: rows that have no part in the vote keep theirs.
    if (kSpareRegisters && !__any_sync(0xffffffffu, raised)) return;
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int d = 0; d < kD; ++d)
#pragma unroll
        for (int x = 0; x < 4; ++x) rO[m][d][x] *= rescale[m][x / 2];
  }

  // From a lane's own keys to the whole row, once all keys are seen.
  __device__ void reduce_sums() {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) softmax[m][half].l = quad_sum(softmax[m][half].l);
  }

  // O and LSE into the result. `tile`, `warp_row` and `lane` are computed again by the caller, so
  // that they are not held in registers across the loop. O is staged in shared memory over the
  // warp's own rows of Q, which no other warp reads, to store whole lines.
  __device__ void write(const ForwardArgs& args, const TileSchedule& schedule, const WorkTile& tile,
                        int warp_row, int lane, unsigned char* smem) {
    const QTile sO{0};  // offsets into smem
    __syncwarp();
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const OnlineSoftmax<kCarry>& of_row = softmax[m][half];
        const float inverse = 1 / of_row.l;
        const int row = warp_row + m * 16 + half * 8 + lane / 4;
#pragma unroll
        for (int d = 0; d < kD; ++d) {
          const uint32_t o =
              pack<T>(rO[m][d][half * 2] * inverse, rO[m][d][half * 2 + 1] * inverse);
          *reinterpret_cast<uint32_t*>(smem + sO.at(row, d) + lane % 4 * 4) =
              of_row.empty() ? 0 : o;
        }
        if (args.lse.data != nullptr && lane % 4 == 0 && row < tile.rows) {
          const int i = schedule.query(tile.row + row);
          const int head = tile.head + schedule.member(tile.row + row, i);
          static_cast<float*>(args.lse.data)[tile.batch * args.lse.batch + head * args.lse.head +
                                             i * args.lse.row] = of_row.lse(exponent_factor(args));
        }
      }
    __syncwarp();
    T* gO = static_cast<T*>(args.o.data) + tile.batch * args.o.batch + tile.head * args.o.head;
    constexpr int kLanes = kD < 32 ? kD : 32;  // that write one row, 16 bytes each
    const int chunk = lane % kLanes;
    if (chunk * 8 >= args.d_v) return;
#pragma unroll 4
    for (int row = warp_row + lane / kLanes; row < warp_row + 16 * kM; row += 32 / kLanes) {
      if (row >= tile.rows) return;
      const int i = schedule.query(tile.row + row), member = schedule.member(tile.row + row, i);
      *reinterpret_cast<uint4*>(gO + member * args.o.head + i * args.o.row + chunk * 8) =
          *reinterpret_cast<const uint4*>(smem + sO.at(row, chunk));
    }
  }

  // The same into the workspace, for combine: in fp32 straight from the registers, a quad 32 bytes
  // at a time.
  __device__ void write(const ForwardArgs& args, const TileSchedule& schedule, const WorkTile& tile,
                        int warp_row, int lane, const Partials& partials) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const OnlineSoftmax<kCarry>& of_row = softmax[m][half];
        const int row = warp_row + m * 16 + half * 8 + lane / 4;
        if (row >= tile.rows) continue;
        const int i = schedule.query(tile.row + row);
        const int head = tile.head + schedule.member(tile.row + row, i);
        const int64_t to = Partials::row(args, tile.split, tile.batch, head, i);
        if (lane % 4 == 0) partials.lse[to] = of_row.split_lse(exponent_factor(args));
        if (of_row.empty()) continue;
        const float inverse = 1 / of_row.l;
        float* gO = partials.o + to * args.d_v + lane % 4 * 2;
#pragma unroll
        for (int d = 0; d < kD; ++d)
          if (d * 8 < args.d_v)
            *reinterpret_cast<float2*>(gO + d * 8) =
                make_float2(rO[m][d][half * 2] * inverse, rO[m][d][half * 2 + 1] * inverse);
      }
  }
};

template <Type kType, int kDim, Sm80Variant kVariant>
static __global__ void __launch_bounds__(kSm80ForwardThreads,
                                         sm80_forward_policy(kDim, kVariant).min_blocks)
    sm80_forward(const __grid_constant__ ForwardArgs args,
                 const __grid_constant__ TileSchedule schedule,
                 const __grid_constant__ Partials partials) {
  using Kernel = Sm80Forward<kType, kDim, kVariant>;
  using T = typename Kernel::T;
  constexpr int kTileKv = Kernel::kTileKv, kM = Kernel::kM, kStages = Kernel::kStages;
  extern __shared__ __align__(128) unsigned char smem[];
  ptx::griddepcontrol_launch_dependents();  // combine
  const WorkTile tile = work_tile(schedule, blockIdx.x);
  const int warp_row = Kernel::warp_row(static_cast<int>(threadIdx.x));
  const int lane = Kernel::lane_of(static_cast<int>(threadIdx.x));
  const T* gQ =
      static_cast<const T*>(args.q.data) + tile.batch * args.q.batch + tile.head * args.q.head;

  const uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(smem));
  const typename Kernel::QTile sQ{base};
  const auto sK = [&](int stage) {
    return typename Kernel::KvTile{base + Kernel::QTile::kBytes +
                                   static_cast<uint32_t>(stage) * Kernel::KvTile::kBytes};
  };
  const auto sV = [&](int stage) { return sK(kStages + stage); };

  const KeyMask mask = key_mask(args, tile.batch);
  const TileKeys keys_of_tile = tile_keys(schedule, mask, tile.row, tile.rows);
  const KeyRange keys = keys_of_split(schedule, keys_of_tile.visible, tile.split);
  const ScoreRules<T> rules(args, mask, tile.batch, tile.head);
  const bool folded = Kernel::folds_scale(args);
  const float factor = Kernel::exponent_factor(args);

  // Opaque: the addresses of K and V are computed for each block, not held in registers.
  const auto rows_of = [&](const Tensor& t, int j0) {
    return static_cast<const T*>(t.data) + ptx::opaque(tile.batch) * t.batch +
           ptx::opaque(tile.head_kv) * t.head + j0 * t.row;
  };
  const auto copy_k = [&](int j0, int stage) {
    sK(stage).copy(rows_of(args.k, j0), args.k.row, mask.length - j0, args.d_qk);
    ptx::cp_async_commit_group();
  };
  const auto copy_v = [&](int j0, int stage) {
    sV(stage).copy(rows_of(args.v, j0), args.v.row, mask.length - j0, args.d_v);
    ptx::cp_async_commit_group();
  };

  // Invariant after each block of keys, per row: m = max s; the quad's l add up to sum P, P =
  // 2^(factor (s - m) + kCarry); rO = sum P V.
  Kernel state;
  const int row = tile.row + warp_row + lane / 4;  // the lane's first
  if (keys.begin < keys.end) {
    const int first = keys.begin / kTileKv * kTileKv;
    int j0 = (keys.end - 1) / kTileKv * kTileKv;
    sQ.copy_rows(
        [&](int r) {
          const int i = schedule.query(tile.row + r), member = schedule.member(tile.row + r, i);
          return gQ + member * args.q.head + i * args.q.row;
        },
        tile.rows, args.d_qk);
    copy_k(j0, 0);
    if constexpr (kStages == 2) copy_v(j0, 0);
    for (int stage = 0; j0 >= first; j0 -= kTileKv, stage ^= kStages - 1) {
      ptx::cp_async_wait_group<0>();
      // K is there (at first Q too), V of two stages as well; all warps have read the block before.
      __syncthreads();
      if constexpr (kStages == 1) {
        copy_v(j0, 0);
      } else if (j0 > first) {
        copy_k(j0 - kTileKv, stage ^ 1);
        copy_v(j0 - kTileKv, stage ^ 1);
      }
      float rS[kM][Kernel::kN][4];
      Kernel::multiply_qk(rS, sQ, sK(stage), warp_row, lane);
      if constexpr (kStages == 1) {
        ptx::cp_async_wait_group<0>();
        __syncthreads();  // V is there; all warps have read K
        if (j0 > first) copy_k(j0 - kTileKv, 0);
      }

      const int j = j0 + lane % 4 * 2;  // the lane's first key
      if constexpr (Kernel::kRules) {
        Kernel::apply_rules(rS, schedule, rules, mask, args.scale, row, j);
      } else {
        if (!folded) {
#pragma unroll
          for (int m = 0; m < kM; ++m)
#pragma unroll
            for (int n = 0; n < Kernel::kN; ++n)
#pragma unroll
              for (int x = 0; x < 4; ++x) rS[m][n][x] *= args.scale;
        }
        // Opaque: computed here, in the few blocks that need it, not held in registers.
        if (j0 < keys_of_tile.unmasked.begin || keys_of_tile.unmasked.end - j0 < kTileKv)
          Kernel::apply_mask(rS, schedule, key_mask_of_length(args, ptx::opaque(mask.length)),
                             ptx::opaque(row), j);
      }
      float shift[kM][2];
      state.raise(rS, factor, shift);
      state.multiply_pv(rS, sV(stage), ptx::opaque(lane), factor, shift);
    }
  }

  state.reduce_sums();
  const WorkTile again = work_tile(schedule, static_cast<uint32_t>(ptx::opaque(blockIdx.x)));
  const int thread = ptx::opaque(static_cast<int>(threadIdx.x));
  if (schedule.splits == 1)
    state.write(args, schedule, again, Kernel::warp_row(thread), Kernel::lane_of(thread), smem);
  else
    state.write(args, schedule, again, Kernel::warp_row(thread), Kernel::lane_of(thread), partials);
}

}  // namespace qkv::kernels
