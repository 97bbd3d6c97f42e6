// sm80_tf32x3: O = softmax(S) V and LSE of fp32 tensors on the tensor cores of sm_80 and sm_90, as
// accurate as fp32 arithmetic: every operand is a sum of tf32 numbers, as core/tf32x3.cuh says,
// which has Q K^T.
//
// One block of four warps computes a tile of core/scheduler.h, kTileQ query rows of one head; a
// warp owns 16 of them. It walks over the blocks of keys that at least one row sees, the last one
// first: V of a block is copied while Q K^T is computed, K of the next one during softmax and P V.
// P stays in registers: P V sums over the keys in the order in which the accumulators of Q K^T hold
// them, and rows of V are read in this order.
//
// Tensor cores add with truncation: P V too is added up from zero for one block of keys, and small
// products apart from big ones. V has a third part, its last bits, times P in bf16: where one key
// has all of the weight, O is its row of V bit for bit.
//
// What of V has no tf32 parts, NaN and infinity among it, is computed apart: outliers.cuh.
//
// Contract (qkv.h has the rest): rows 16-byte aligned; keys at or past the length are never read,
// their rows in shared memory are 0; keys masked by the window get weight 0; a row without a score
// above -inf gives O = +0 and LSE = -inf. No atomics: the result depends on the arguments alone.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/attention/sm80_tf32x3/outliers.cuh"
#include "kernels/attention/sm80_tf32x3/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/scheduler.h"
#include "kernels/core/score.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/core/swizzled_tile.cuh"
#include "kernels/core/tf32x3.cuh"
#include "kernels/ptx/ld_shared.h"
#include "kernels/ptx/mma.h"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

// kRules: with softcap, mask, bias and ALiBi.
template <int kDim, bool kRules>
struct Sm80Tf32x3 {
  static constexpr Sm80Tf32x3Policy kPolicy = sm80_tf32x3_policy(kDim, kRules);
  static constexpr int kTileQ = kSm80Tf32x3TileQ;
  static constexpr int kTileKv = kPolicy.tile_kv;
  static constexpr int kN = kTileKv / 8;  // 8-key fragments of S
  static constexpr int kG = kDim / 16;    // 16-column groups of O
  static_assert(kPolicy.max_dim == kDim && kTileQ == 16 * kSm80Tf32x3Threads / 32 &&
                kTileKv % 16 == 0);

  using QTile = SwizzledTile<float, kTileQ, kDim, kSm80Tf32x3Threads>;
  using KvTile = SwizzledTile<float, kTileKv, kDim, kSm80Tf32x3Threads>;
  static_assert(QTile::kBytes + 2 * KvTile::kBytes + kTileQ * kTileKv * 4 ==
                sm80_tf32x3_smem_bytes(kPolicy));

  using Scores = Tf32x3Scores<kDim, kTileQ, kTileKv, kSm80Tf32x3Threads>;
  using Outliers = Sm80Tf32x3Outliers<kDim, kTileKv>;

  // Fragments of S as core/score_fragment.cuh draws them. A group of O, rO[g], is two fragments f
  // of the same rows; their columns are interleaved: 16 g + 4 (lane % 4) + f and + 2.
  float rO[kG][2][4] = {};
  OnlineSoftmax<> softmax[2];

  // rO = rescale rO + P V; P is rS.
  __device__ void multiply_pv(const float (&rS)[kN][4], const float (&rescale)[2], KvTile sV,
                              int lane) {
    float p_big[kN][4], p_small[kN][4];
    uint32_t p_bf16[kN][2];
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      // Keys 2 t and 2 t + 1 are the columns t and t + 4 of the product.
      const float p[4] = {rS[n][0], rS[n][2], rS[n][1], rS[n][3]};
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        p_big[n][x] = tf32_rounded(p[x]);
        p_small[n][x] = p[x] - p_big[n][x];
      }
      p_bf16[n][0] = pack<__nv_bfloat16>(rS[n][0], rS[n][1]);
      p_bf16[n][1] = pack<__nv_bfloat16>(rS[n][2], rS[n][3]);
    }
    const uint32_t v0 = sV.at(lane % 4 * 2, lane / 8) + lane / 4 % 2 * 8;
    const uint32_t v1 = sV.at(lane % 4 * 2 + 1, lane / 8) + lane / 4 % 2 * 8;
#pragma unroll
    for (int g = 0; g < kG; ++g) {
      __syncwarp();  // ptxas must not move loads up past here: it would run out of registers
      float big[2][4] = {}, small[2][4] = {};
#pragma unroll
      for (int n = 0; n < kN; n += 2) {
        const uint32_t p[4] = {p_bf16[n][0], p_bf16[n][1], p_bf16[n + 1][0], p_bf16[n + 1][1]};
        uint32_t v_last[2][2];
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          const int at = (n + m) * 8 * kDim * 4 + g / 2 * 128;
          float even[2], odd[2];
          ptx::ld_shared_v2(even, KvTile::right_of(v0, g % 2 * 4) + at);
          ptx::ld_shared_v2(odd, KvTile::right_of(v1, g % 2 * 4) + at);
#pragma unroll
          for (int f = 0; f < 2; ++f) {
            const float b0 = tf32_rounded(even[f]), b1 = tf32_rounded(odd[f]);
            const float s0 = even[f] - b0, s1 = odd[f] - b1;
            ptx::mma_m16n8k8_tf32(small[f], p_small[n + m], b0, b1);
            ptx::mma_m16n8k8_tf32(small[f], p_big[n + m], s0, s1);
            ptx::mma_m16n8k8_tf32(big[f], p_big[n + m], b0, b1);
            // At most one bit is left: upper halves of fp32 numbers hold it.
            v_last[m][f] = __byte_perm(__float_as_uint(s0 - tf32_truncated(s0)),
                                       __float_as_uint(s1 - tf32_truncated(s1)), 0x7632);
          }
        }
#pragma unroll
        for (int f = 0; f < 2; ++f)
          ptx::mma_m16n8k16<__nv_bfloat16>(small[f], p, v_last[0][f], v_last[1][f]);
      }
#pragma unroll
      for (int f = 0; f < 2; ++f)
#pragma unroll
        for (int x = 0; x < 4; ++x)
          rO[g][f][x] = fmaf(rO[g][f][x], rescale[x / 2], big[f][x] + small[f][x]);
    }
  }

  // rS = -inf where a row does not see the key. `i` and `key` are the lane's first.
  static __device__ void apply_mask(float (&rS)[kN][4], const KeyMask& mask, int i, int key) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      kernels::apply_mask(rS, half, mask.keys(int64_t{i} + half * 8), key);
  }

  // rS = the scores that the softmax sees, from Q K^T. Rows past the last see no key.
  static __device__ void apply_rules(float (&rS)[kN][4], const ScoreRules<float>& rules,
                                     const KeyMask& mask, const ForwardArgs& args, int i, int key) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = i + half * 8;
      const KeyRange visible = row < args.s_q ? mask.keys(row) : KeyRange{0, 0};
      kernels::apply_rules(rS, half, rules, visible, args.scale, key, row, 0);
    }
  }

  // rS = P; `rescale` is for the sums of O so far.
  __device__ void update_softmax(float (&rS)[kN][4], float (&rescale)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      rescale[half] = raise_row(rS, half, softmax[half], kLog2E);
      weigh_row(rS, half, softmax[half], [&](float s) { return softmax[half].weight(s, kLog2E); });
    }
  }

  // O and LSE. `tile` and `thread` are computed again by the caller, so that they are not held in
  // registers across the loop.
  __device__ void write(const ForwardArgs& args, const WorkTile& tile, int thread) {
    const int warp_row = thread / 32 * 16, lane = thread % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      OnlineSoftmax<>& of_row = softmax[half];
      of_row.l = quad_sum(of_row.l);
      const int row = warp_row + half * 8 + lane / 4;
      if (row >= tile.rows) continue;
      const float inverse = 1 / of_row.l;
      float* gO = static_cast<float*>(args.o.data) + tile.batch * args.o.batch +
                  tile.head * args.o.head + (tile.row + row) * args.o.row;
#pragma unroll
      for (int g = 0; g < kG; ++g) {
        const int column = g * 16 + lane % 4 * 4, x = half * 2;
        float4 o = make_float4(rO[g][0][x] * inverse, rO[g][1][x] * inverse,
                               rO[g][0][x + 1] * inverse, rO[g][1][x + 1] * inverse);
        if (of_row.empty()) o = make_float4(0, 0, 0, 0);
        if (column < args.d_v) *reinterpret_cast<float4*>(gO + column) = o;
      }
      if (args.lse.data != nullptr && lane % 4 == 0)
        static_cast<float*>(args.lse.data)[tile.batch * args.lse.batch + tile.head * args.lse.head +
                                           (tile.row + row) * args.lse.row] = of_row.lse(kLog2E);
    }
  }
};

template <int kDim, bool kRules>
static __global__ void __launch_bounds__(kSm80Tf32x3Threads,
                                         sm80_tf32x3_policy(kDim, kRules).min_blocks)
    sm80_tf32x3(const __grid_constant__ ForwardArgs args,
                const __grid_constant__ TileSchedule schedule) {
  using Kernel = Sm80Tf32x3<kDim, kRules>;
  constexpr int kTileKv = Kernel::kTileKv;
  extern __shared__ __align__(128) unsigned char smem[];

  // Setup. A set is one head: a row's number in its set is its query.
  const WorkTile tile = work_tile(schedule, blockIdx.x);
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float* gQ = static_cast<const float*>(args.q.data) + tile.batch * args.q.batch +
                    tile.head * args.q.head + tile.row * args.q.row;
  const float* gK = static_cast<const float*>(args.k.data) + tile.batch * args.k.batch +
                    tile.head_kv * args.k.head;
  const float* gV = static_cast<const float*>(args.v.data) + tile.batch * args.v.batch +
                    tile.head_kv * args.v.head;

  const uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(smem));
  constexpr int kAtK = Kernel::QTile::kBytes, kAtV = kAtK + Kernel::KvTile::kBytes,
                kAtP = kAtV + Kernel::KvTile::kBytes;
  const typename Kernel::QTile sQ{base};
  const typename Kernel::KvTile sK{base + kAtK}, sV{base + kAtV};

  const KeyMask mask = key_mask(args, tile.batch);
  const KeyRange visible = mask.visible_keys(tile.row, tile.rows);
  const KeyRange unmasked = mask.unmasked_keys(tile.row, tile.rows);

  const auto copy_k = [&](int j0) {
    sK.copy(gK + j0 * args.k.row, args.k.row, mask.length - j0, args.d_qk);
    ptx::cp_async_commit_group();
  };
  const auto copy_v = [&](int j0) {
    sV.copy(gV + j0 * args.v.row, args.v.row, mask.length - j0, args.d_v);
    ptx::cp_async_commit_group();
  };

  // Invariant after each block of keys, per row: m = max s; the quad's l add up to sum e^(s - m);
  // rO = sum e^(s - m) V.
  Kernel state;
  const int i = tile.row + warp_row + lane / 4;  // the lane's first row
  if (visible.begin < visible.end) {
    const int first = visible.begin / kTileKv * kTileKv;
    int j0 = (visible.end - 1) / kTileKv * kTileKv;
    sQ.copy(gQ, args.q.row, tile.rows, args.d_qk);
    copy_k(j0);
    for (; j0 >= first; j0 -= kTileKv) {
      ptx::cp_async_wait_group<0>();
      __syncthreads();  // K is there (at first Q too); all warps have read V of the block before
      copy_v(j0);
      float rS[Kernel::kN][4];
      Kernel::Scores::multiply(rS, sQ, sK, warp_row, lane);
      Kernel::Scores::repair(rS, smem, typename Kernel::QTile{0}, typename Kernel::KvTile{kAtK});

      ptx::cp_async_wait_group<0>();
      // V is there; all warps have read K.
      const bool outliers = __syncthreads_or(Kernel::Outliers::take_out(smem + kAtV)) != 0;
      if (j0 > first) copy_k(j0 - kTileKv);

      const int key = j0 + lane % 4 * 2;  // the lane's first
      if constexpr (kRules) {
        // Opaque: the rules' addresses are computed again for each block of keys instead of held in
        // registers.
        const ScoreRules<float> rules(args, mask, ptx::opaque(tile.batch), ptx::opaque(tile.head));
        Kernel::apply_rules(rS, rules, mask, args, i, key);
      } else {
#pragma unroll
        for (int n = 0; n < Kernel::kN; ++n)
#pragma unroll
          for (int x = 0; x < 4; ++x) rS[n][x] *= args.scale;
        // Opaque: the rows' bounds are computed again here, in the few blocks that need them.
        if (j0 < unmasked.begin || unmasked.end - j0 < kTileKv)
          Kernel::apply_mask(rS, mask, ptx::opaque(i), key);
      }
      float rescale[2];
      state.update_softmax(rS, rescale);
      float* sP = reinterpret_cast<float*>(smem + kAtP) + warp_row * kTileKv;
      if (outliers) Kernel::Outliers::store_p(rS, sP, lane);
      state.multiply_pv(rS, rescale, sV, lane);
      if (outliers)
        Kernel::Outliers::add_pv(state.rO, sP, gV + j0 * args.v.row, args.v.row, mask.length - j0,
                                 args.d_v);
    }
  }

  state.write(args, work_tile(schedule, static_cast<uint32_t>(ptx::opaque(blockIdx.x))),
              ptx::opaque(static_cast<int>(threadIdx.x)));
}

}  // namespace qkv::kernels
