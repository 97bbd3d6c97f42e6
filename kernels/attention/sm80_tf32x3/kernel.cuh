// sm80_tf32x3: O = softmax(S) V and LSE of fp32 tensors on the tensor cores of sm_80 and sm_90, as
// accurate as fp32 arithmetic: every operand is a sum of tf32 numbers, x = big + small, and a
// product is big big + big small + small big. What is left out, small small, is 2^-22 of it.
//
// One block of four warps computes kTileQ query rows of one (batch, head), a warp 16 of them. It
// walks over the blocks of keys that some row sees, the last one first: V of a block is copied
// while Q K^T is computed, K of the next one during softmax and P V. P stays in registers: the
// order of keys in P V is the one in which Q K^T leaves P, and rows of V are read in this order.
//
// Tensor cores add with truncation. So they add up at most 16 dims or one block of keys from zero;
// these sums are added to S and O as fp32 does, and small products apart from big ones. V has a
// third part, its last bits, times P in bf16: where one key has all of the weight, O is its row of
// V bit for bit.
//
// NaN and infinity have no parts. A score that is not finite is computed again by plain fp32
// arithmetic; values outside 2^-100 .. 2^100 are taken out of the tile of V and added so.
//
// Contract (qkv.h has the rest): rows 16-byte aligned; keys at or past the length are never read,
// their place in shared memory is 0; keys hidden by the window get weight 0; a row without a score
// above -inf gives O = +0 and LSE = -inf. No atomics: the result depends on the arguments alone.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/attention/sm80_tf32x3/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask.h"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/score.cuh"
#include "kernels/core/swizzled_tile.cuh"
#include "kernels/ptx/ld_shared.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/max_nan.h"
#include "kernels/ptx/mma.h"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

// kRules: softcap, mask, bias and ALiBi are looked at.
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

  // A lane's place in a fragment of S: rows lane / 4 and + 8, keys 2 (lane % 4) and + 1. Of a group
  // of O the same rows, and columns 4 (lane % 4) + f and + 2 of fragment f.
  float rO[kG][2][4] = {};
  OnlineSoftmax softmax[2];

  // A block's tile of query rows and a lane's place in it.
  struct Place {
    int batch, head;
    int i0, rows;  // first row of the tile, and how many exist
    int warp_row, lane;
  };

  // The last query tiles see most keys under a causal mask: they start first.
  static __device__ Place place(const ForwardArgs& args, int block, int thread) {
    const unsigned tiles = (static_cast<unsigned>(args.s_q) + kTileQ - 1) / kTileQ;
    const unsigned heads = static_cast<unsigned>(args.heads_q);
    const unsigned tile = static_cast<unsigned>(block) % tiles;
    const unsigned bh = static_cast<unsigned>(block) / tiles;
    const int i0 = static_cast<int>(tiles - 1 - tile) * kTileQ;
    return {static_cast<int>(bh / heads),
            static_cast<int>(bh % heads),
            i0,
            min(kTileQ, args.s_q - i0),
            thread / 32 * 16,
            thread % 32};
  }

  // x to 11 significant bits: as the product reads its operands, and to nearest. What is left of a
  // rounded number has 12 bits at most; of NaN and infinity it is NaN.
  static __device__ float truncated(float x) {
    return __uint_as_float(__float_as_uint(x) & 0xffffe000u);
  }
  static __device__ float rounded(float x) {
    return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u);
  }

  // A value that the parts would not add up to: NaN, infinity, numbers so small that their parts
  // are subnormal.
  static __device__ bool is_odd(float v) {
    return !(fabsf(v) < 0x1p100f) || (v != 0 && fabsf(v) < 0x1p-100f);
  }

  // Puts 0 in the place of odd values among those that this thread has copied into the tile of V,
  // which must be there; says whether there were any.
  static __device__ bool take_out_odd(unsigned char* sV) {
    constexpr int kStep = kSm80Tf32x3Threads / KvTile::kChunks;
    const int thread = ptx::opaque(static_cast<int>(threadIdx.x));
    const auto chunk = [&](int row) -> float4& {
      return *reinterpret_cast<float4*>(
          sV + KvTile{0}.at(row + thread / KvTile::kChunks, thread % KvTile::kChunks));
    };
    float most = 0;
    uint32_t least = 0xffffffffu;
#pragma unroll
    for (int row = 0; row < kTileKv; row += kStep) {
      const float4 v4 = chunk(row);
      for (const float v : {v4.x, v4.y, v4.z, v4.w}) {
        most = ptx::max_nan(most, fabsf(v));
        least = min(least, 2 * __float_as_uint(v) - 1);  // without the sign; 0 becomes the largest
      }
    }
    if (most < 0x1p100f && least >= 2 * __float_as_uint(0x1p-100f) - 1) return false;
#pragma unroll 1
    for (int row = 0; row < kTileKv; row += kStep) {
      float4& v = chunk(row);
      v = make_float4(is_odd(v.x) ? 0 : v.x, is_odd(v.y) ? 0 : v.y, is_odd(v.z) ? 0 : v.z,
                      is_odd(v.w) ? 0 : v.w);
    }
    return true;
  }

  // rS = Q K^T for the warp's rows.
  static __device__ void multiply_qk(float (&rS)[kN][4], QTile sQ, KvTile sK, int warp_row,
                                     int lane) {
    float small[kN][4];
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x) rS[n][x] = small[n][x] = 0;
    const uint32_t q0 = sQ.at(warp_row + lane % 16, lane / 16);
    const uint32_t k0 = sK.at(lane % 8, lane / 8);
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      __syncwarp();  // nothing is read ahead of time, into registers that are not there
      float q_big[2][4], q_small[2][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t q[4];
        ptx::ldmatrix_x4(q, QTile::right_of(q0, 4 * d + 2 * half));
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          q_big[half][x] = rounded(__uint_as_float(q[x]));
          q_small[half][x] = __uint_as_float(q[x]) - q_big[half][x];
        }
      }
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        uint32_t k[4];
        ptx::ldmatrix_x4(k, KvTile::right_of(k0, 4 * d) + n * 8 * kDim * 4);
        float k_big[4], k_small[4];
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          k_big[x] = rounded(__uint_as_float(k[x]));
          k_small[x] = __uint_as_float(k[x]) - k_big[x];
        }
        float big[4] = {};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          ptx::mma_m16n8k8_tf32(small[n], q_small[half], k_big[2 * half], k_big[2 * half + 1]);
          ptx::mma_m16n8k8_tf32(small[n], q_big[half], k_small[2 * half], k_small[2 * half + 1]);
          ptx::mma_m16n8k8_tf32(big, q_big[half], k_big[2 * half], k_big[2 * half + 1]);
        }
#pragma unroll
        for (int x = 0; x < 4; ++x) rS[n][x] += big[x];
      }
    }
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x) rS[n][x] += small[n][x];
  }

  // rO = shrink rO + P V; P is rS.
  __device__ void multiply_pv(const float (&rS)[kN][4], const float (&shrink)[2], KvTile sV,
                              int lane) {
    float p_big[kN][4], p_small[kN][4];
    uint32_t p_bf16[kN][2];
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      // Keys 2 t and 2 t + 1 are the columns t and t + 4 of the product.
      const float p[4] = {rS[n][0], rS[n][2], rS[n][1], rS[n][3]};
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        p_big[n][x] = rounded(p[x]);
        p_small[n][x] = p[x] - p_big[n][x];
      }
      p_bf16[n][0] = bf16_pair(rS[n][0], rS[n][1]);
      p_bf16[n][1] = bf16_pair(rS[n][2], rS[n][3]);
    }
    const uint32_t v0 = sV.at(lane % 4 * 2, lane / 8) + lane / 4 % 2 * 8;
    const uint32_t v1 = sV.at(lane % 4 * 2 + 1, lane / 8) + lane / 4 % 2 * 8;
#pragma unroll
    for (int g = 0; g < kG; ++g) {
      __syncwarp();  // as above
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
            const float b0 = rounded(even[f]), b1 = rounded(odd[f]);
            const float s0 = even[f] - b0, s1 = odd[f] - b1;
            ptx::mma_m16n8k8_tf32(small[f], p_small[n + m], b0, b1);
            ptx::mma_m16n8k8_tf32(small[f], p_big[n + m], s0, s1);
            ptx::mma_m16n8k8_tf32(big[f], p_big[n + m], b0, b1);
            // At most one bit is left: upper halves of fp32 numbers hold it.
            v_last[m][f] = __byte_perm(__float_as_uint(s0 - truncated(s0)),
                                       __float_as_uint(s1 - truncated(s1)), 0x7632);
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
          rO[g][f][x] = fmaf(rO[g][f][x], shrink[x / 2], big[f][x] + small[f][x]);
    }
  }

  static __device__ uint32_t bf16_pair(float low, float high) {
    const __nv_bfloat162 x = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&x);
  }

  // Scores that are not finite, again.
  static __device__ void repair_qk(float (&rS)[kN][4], const unsigned char* smem) {
    bool finite = true;
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x) finite = finite && fabsf(rS[n][x]) < INFINITY;
    if (__all_sync(0xffffffffu, finite)) return;
    const QTile sQ{0};  // offsets into smem
    const KvTile sK{QTile::kBytes};
    const int thread = ptx::opaque(static_cast<int>(threadIdx.x)), lane = thread % 32;
    const int row = thread / 32 * 16 + lane / 4;
    float again[kN][4] = {};
#pragma unroll 1
    for (int d = 0; d < kDim; ++d) {
      const auto at = [&](const auto& tile, int row) {
        return *reinterpret_cast<const float*>(smem + tile.at(row, d / 4) + d % 4 * 4);
      };
      const float q0 = at(sQ, row), q1 = at(sQ, row + 8);
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          const float k = at(sK, n * 8 + lane % 4 * 2 + x);
          again[n][x] = fmaf(q0, k, again[n][x]);
          again[n][2 + x] = fmaf(q1, k, again[n][2 + x]);
        }
    }
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x)
        if (!(fabsf(rS[n][x]) < INFINITY)) rS[n][x] = again[n][x];
  }

  // Keeps P of the warp in sP, [16][kTileKv].
  static __device__ void keep_p(const float (&rS)[kN][4], float* sP, int lane) {
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x)
        sP[(lane / 4 + x / 2 * 8) * kTileKv + n * 8 + lane % 4 * 2 + x % 2] = rS[n][x];
    __syncwarp();
  }

  // rO += P V for the odd values among the first `keys` rows of gV.
  __device__ void add_odd(const float* sP, const float* gV, int64_t g_row, int keys, int d_v) {
    const int lane = ptx::opaque(static_cast<int>(threadIdx.x)) % 32;
#pragma unroll 1
    for (int j = 0; j < kTileKv && j < keys; ++j, gV += g_row) {
      const float p0 = sP[lane / 4 * kTileKv + j], p1 = sP[(lane / 4 + 8) * kTileKv + j];
#pragma unroll
      for (int g = 0; g < kG; ++g) {
        const int column = g * 16 + lane % 4 * 4;
        if (column >= d_v) continue;
        const float4 v4 = *reinterpret_cast<const float4*>(gV + column);
        const float v[4] = {v4.x, v4.y, v4.z, v4.w};
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          if (!is_odd(v[c])) continue;
          rO[g][c % 2][c / 2] = fmaf(p0, v[c], rO[g][c % 2][c / 2]);
          rO[g][c % 2][2 + c / 2] = fmaf(p1, v[c], rO[g][c % 2][2 + c / 2]);
        }
      }
    }
  }

  // rS = -inf where hidden. `i` and `j` are the lane's first row and key.
  static __device__ void hide(float (&rS)[kN][4], const KeyMask& mask, int i, int j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const KeyRange visible = mask.keys(int64_t{i} + half * 8);
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          const int key = n * 8 + x;
          if (key < visible.begin - j || key >= visible.end - j) rS[n][half * 2 + x] = -INFINITY;
        }
    }
  }

  // rS = the scores that the softmax sees, from Q K^T; rows past the last are hidden.
  static __device__ void apply(float (&rS)[kN][4], const ScoreRules<float>& rules,
                               const KeyMask& mask, float scale, int rows_end, int i, int j) {
    const float slope = rules.slope(0);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = i + half * 8;
      const KeyRange visible = row < rows_end ? mask.keys(row) : KeyRange{0, 0};
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          float& s = rS[n][half * 2 + x];
          const int key = j + n * 8 + x;
          s = rules.visible(visible, row, key)
                  ? rules.biased(rules.softcapped(s * scale), slope, row, key)
                  : -INFINITY;
        }
    }
  }

  // rS = P = 2^(log2(e) rS - m); what is summed up so far is to be multiplied by `shrink`. The best
  // key's weight is 1 to the last bit: log2(e) rS is rounded, there as in m.
  __device__ void weigh(float (&rS)[kN][4], float (&shrink)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float s_max = rS[0][half * 2];
#pragma unroll
      for (int n = 0; n < kN; ++n)
        s_max = fmaxf(s_max, fmaxf(rS[n][half * 2], rS[n][half * 2 + 1]));
      s_max = fmaxf(s_max, __shfl_xor_sync(0xffffffffu, s_max, 1));
      s_max = fmaxf(s_max, __shfl_xor_sync(0xffffffffu, s_max, 2));
      OnlineSoftmax& row = softmax[half];
      shrink[half] = row.raise(s_max * kLog2E);
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          float& s = rS[n][half * 2 + x];
          s = row.weight(__fmul_rn(s, kLog2E));
          row.l += s;
        }
    }
  }

  // O and LSE. The place is worked out anew: it need not be kept across the loop.
  __device__ void write(const ForwardArgs& args) {
    const auto [batch, head, i0, rows, warp_row, lane] =
        place(args, ptx::opaque(static_cast<int>(blockIdx.x)),
              ptx::opaque(static_cast<int>(threadIdx.x)));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      OnlineSoftmax& of_row = softmax[half];
      of_row.l += __shfl_xor_sync(0xffffffffu, of_row.l, 1);
      of_row.l += __shfl_xor_sync(0xffffffffu, of_row.l, 2);
      const int row = warp_row + half * 8 + lane / 4;
      if (row >= rows) continue;
      const float inverse = 1 / of_row.l;
      float* gO = static_cast<float*>(args.o.data) + batch * args.o.batch + head * args.o.head +
                  (i0 + row) * args.o.row;
#pragma unroll
      for (int g = 0; g < kG; ++g) {
        const int column = g * 16 + lane % 4 * 4, x = half * 2;
        float4 o = make_float4(rO[g][0][x] * inverse, rO[g][1][x] * inverse,
                               rO[g][0][x + 1] * inverse, rO[g][1][x + 1] * inverse);
        if (of_row.empty()) o = make_float4(0, 0, 0, 0);
        if (column < args.d_v) *reinterpret_cast<float4*>(gO + column) = o;
      }
      if (args.lse.data != nullptr && lane % 4 == 0)
        static_cast<float*>(args.lse.data)[batch * args.lse.batch + head * args.lse.head +
                                           (i0 + row) * args.lse.row] = of_row.lse();
    }
  }
};

template <int kDim, bool kRules>
static __global__ void __launch_bounds__(kSm80Tf32x3Threads,
                                         sm80_tf32x3_policy(kDim, kRules).min_blocks)
    sm80_tf32x3(const __grid_constant__ ForwardArgs args) {
  using Kernel = Sm80Tf32x3<kDim, kRules>;
  constexpr int kTileKv = Kernel::kTileKv;
  extern __shared__ __align__(128) unsigned char smem[];

  // Setup.
  const auto [batch, head, i0, rows, warp_row, lane] =
      Kernel::place(args, static_cast<int>(blockIdx.x), static_cast<int>(threadIdx.x));
  const int head_kv = head / (args.heads_q / args.heads_kv);

  const float* gQ = static_cast<const float*>(args.q.data) + batch * args.q.batch +
                    head * args.q.head + i0 * args.q.row;
  const float* gK =
      static_cast<const float*>(args.k.data) + batch * args.k.batch + head_kv * args.k.head;
  const float* gV =
      static_cast<const float*>(args.v.data) + batch * args.v.batch + head_kv * args.v.head;

  const uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(smem));
  constexpr int kAtK = Kernel::QTile::kBytes, kAtV = kAtK + Kernel::KvTile::kBytes,
                kAtP = kAtV + Kernel::KvTile::kBytes;
  const typename Kernel::QTile sQ{base};
  const typename Kernel::KvTile sK{base + kAtK}, sV{base + kAtV};

  const KeyMask mask = key_mask(args, batch);
  const KeyRange any = mask.keys_of_any(i0, rows), all = mask.keys_of_all(i0, rows);

  const auto copy_k = [&](int j0) {
    sK.copy(gK + j0 * args.k.row, args.k.row, mask.length - j0, args.d_qk);
    ptx::cp_async_commit_group();
  };
  const auto copy_v = [&](int j0) {
    sV.copy(gV + j0 * args.v.row, args.v.row, mask.length - j0, args.d_v);
    ptx::cp_async_commit_group();
  };

  // Invariant after each block of keys, per row: m = max s; the quad's l add up to sum 2^(s - m);
  // rO = sum 2^(s - m) V.
  Kernel state;
  const int i = i0 + warp_row + lane / 4;  // the lane's first row
  if (any.begin < any.end) {
    const int first = any.begin / kTileKv * kTileKv;
    int j0 = (any.end - 1) / kTileKv * kTileKv;
    sQ.copy(gQ, args.q.row, rows, args.d_qk);
    copy_k(j0);
    for (; j0 >= first; j0 -= kTileKv) {
      ptx::cp_async_wait_group<0>();
      __syncthreads();  // K is there (at first Q too); all warps have read V of the block before
      copy_v(j0);
      float rS[Kernel::kN][4];
      Kernel::multiply_qk(rS, sQ, sK, warp_row, lane);
      Kernel::repair_qk(rS, smem);

      ptx::cp_async_wait_group<0>();
      // V is there; all warps have read K.
      const bool odd_v = __syncthreads_or(Kernel::take_out_odd(smem + kAtV)) != 0;
      if (j0 > first) copy_k(j0 - kTileKv);

      const int j = j0 + lane % 4 * 2;  // the lane's first key
      if constexpr (kRules) {
        // Opaque: read anew for each block of keys, the rules cost no registers.
        const auto here = Kernel::place(args, ptx::opaque(static_cast<int>(blockIdx.x)), 0);
        const ScoreRules<float> rules(args, mask, here.batch, here.head);
        Kernel::apply(rS, rules, mask, args.scale, args.s_q, i, j);
      } else {
#pragma unroll
        for (int n = 0; n < Kernel::kN; ++n)
#pragma unroll
          for (int x = 0; x < 4; ++x) rS[n][x] *= args.scale;
        if (j0 < all.begin || all.end - j0 < kTileKv)
          Kernel::hide(rS, mask, ptx::opaque(i), j);  // opaque: the rows' bounds cost no registers
      }
      float shrink[2];
      state.weigh(rS, shrink);
      float* sP = reinterpret_cast<float*>(smem + kAtP) + warp_row * kTileKv;
      if (odd_v) Kernel::keep_p(rS, sP, lane);
      state.multiply_pv(rS, shrink, sV, lane);
      if (odd_v) state.add_odd(sP, gV + j0 * args.v.row, args.v.row, mask.length - j0, args.d_v);
    }
  }

  state.write(args);
}

}  // namespace qkv::kernels
