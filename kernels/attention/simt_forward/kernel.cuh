// simt_forward: O = softmax(scale * Q K^T) V and LSE on plain CUDA cores, fp32 arithmetic.
//
// One block computes kTileQ query rows of one (batch, head): it walks over the keys that at least
// one of these rows sees, kTileKv at a time, and over d_qk and d_v, kChunk at a time.
// core/simt_tile.cuh says which thread holds what.
//
// Contract (qkv.h has the rest): elements need no alignment but their own; keys at or past the
// length are never read; keys masked by the window get weight 0; P is rounded to the element type
// before P V, l sums the unrounded weights, O is rounded once; a row without a score above -inf
// gives O = +0 and LSE = -inf. No atomics: the result depends on the arguments alone.
#pragma once

#include <cstdint>

#include "kernels/attention/simt_forward/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/simt_tile.cuh"

namespace qkv::kernels {

template <Type kType, int kMaxDim>
static __global__ void __launch_bounds__(simt_forward_policy(kMaxDim).threads,
                                         simt_forward_policy(kMaxDim).min_blocks)
    simt_forward(const __grid_constant__ ForwardArgs args) {
  using T = Element<kType>;
  constexpr SimtForwardPolicy kPolicy = simt_forward_policy(kMaxDim);
  constexpr int kTileQ = kPolicy.tile_q, kTileKv = kPolicy.tile_kv;
  using Tile = SimtTile<T, kPolicy.threads, kTileQ, kTileKv>;
  constexpr int kLanes = Tile::kLanes, kRows = Tile::kRows, kKeys = Tile::kKeys;
  constexpr int kChunk = Tile::kChunk, kCols = Tile::kCols, kChunks = kMaxDim / kChunk;
  static_assert(kPolicy.max_dim == kMaxDim && kMaxDim % kChunk == 0);
  static_assert(sizeof(typename Tile::Smem) == simt_smem_bytes(kTileQ, kTileKv));
  __shared__ typename Tile::Smem smem;

  // Setup. The last query tiles see most keys under a causal mask: they start first.
  const unsigned tiles_q = (static_cast<unsigned>(args.s_q) + kTileQ - 1) / kTileQ;
  const int i0 = static_cast<int>(tiles_q - 1 - blockIdx.x % tiles_q) * kTileQ;
  const int head = static_cast<int>(blockIdx.x / tiles_q % static_cast<unsigned>(args.heads_q));
  const int batch = static_cast<int>(blockIdx.x / tiles_q / static_cast<unsigned>(args.heads_q));
  const int head_kv = head / (args.heads_q / args.heads_kv);
  const int rows = min(kTileQ, args.s_q - i0);

  const int lane = threadIdx.x % kLanes;
  const int row0 = static_cast<int>(threadIdx.x) / kLanes * kRows;  // this thread's first row

  const T* gQ = static_cast<const T*>(args.q.data) + batch * args.q.batch + head * args.q.head +
                i0 * args.q.row;
  const T* gK = static_cast<const T*>(args.k.data) + batch * args.k.batch + head_kv * args.k.head;
  const T* gV = static_cast<const T*>(args.v.data) + batch * args.v.batch + head_kv * args.v.head;

  const bool q_aligned = Tile::aligned(args.q, args.d_qk);
  const bool k_aligned = Tile::aligned(args.k, args.d_qk);
  const bool v_aligned = Tile::aligned(args.v, args.d_v);

  const KeyMask mask = key_mask(args, batch);
  const KeyRange visible = mask.visible_keys(i0, rows);
  const KeyRange unmasked = mask.unmasked_keys(i0, rows);

  // Invariant after each tile of keys, per row: m = max s; the lanes' l add up to sum P, P =
  // e^(s - m) 2^carry; rO = sum P V.
  OnlineSoftmax<softmax_carry(kType)> softmax[kRows];
  float rO[kRows][kChunks * kCols] = {};

  // From a multiple of kTileKv on: in which tile a key is, and so in which order a row is summed
  // up, does not depend on the rows beside it.
  const int first = visible.begin / kTileKv * kTileKv;
  for (int left = visible.end - first; left > 0; left -= kTileKv) {
    const int j0 = visible.end - left;
    const int keys = min(kTileKv, left);

    // S = Q K^T.
    float rS[kRows][kKeys] = {};
    for (int d0 = 0; d0 < args.d_qk; d0 += kChunk) {
      const int cols = min(kChunk, args.d_qk - d0);
      __syncthreads();  // all warps have read the chunk before: Q and K, or P and V
      Tile::load(smem.qp, gQ + d0, args.q.row, rows, cols, q_aligned);
      Tile::load(smem.kv, gK + j0 * args.k.row + d0, args.k.row, keys, cols, k_aligned);
      __syncthreads();  // Q and K are there
      Tile::multiply_qk(rS, smem, row0, lane, cols);
    }

    // s = scale * S, -inf where masked.
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kKeys; ++j) rS[r][j] *= args.scale;
    if (j0 < unmasked.begin || unmasked.end - j0 < kTileKv) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const KeyRange of_row = mask.keys(int64_t{i0} + row0 + r);
#pragma unroll
        for (int j = 0; j < kKeys; ++j) {
          const int key = lane + j * kLanes;
          if (key < of_row.begin - j0 || key >= of_row.end - j0) rS[r][j] = -INFINITY;
        }
      }
    }

    // P.
    __syncthreads();  // all warps have read Q and K: P and V may overwrite them
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float s_max = rS[r][0];
#pragma unroll
      for (int j = 1; j < kKeys; ++j) s_max = fmaxf(s_max, rS[r][j]);
      const float rescale = softmax[r].raise(Tile::reduce_row(s_max, fmaxf), kLog2E);
#pragma unroll
      for (int j = 0; j < kKeys; ++j) {
        const float p = softmax[r].weight(rS[r][j], kLog2E);
        softmax[r].l += p;
        smem.qp[row0 + r][lane + j * kLanes] = round_to<T>(p);
      }
#pragma unroll
      for (int c = 0; c < kChunks * kCols; ++c) rO[r][c] *= rescale;
    }

    // O += P V.
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (c * kChunk >= args.d_v) break;
      if (c > 0) __syncthreads();  // all warps have read V of the chunk before
      Tile::load(smem.kv, gV + j0 * args.v.row + c * kChunk, args.v.row, keys,
                 args.d_v - c * kChunk, v_aligned);
      __syncthreads();  // P and V are there
      Tile::multiply_pv(rO, c * kCols, smem, row0, lane, keys);
    }
  }

  // Epilogue.
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    softmax[r].l = Tile::reduce_row(softmax[r].l, [](float a, float b) { return a + b; });
    const float inverse = 1 / softmax[r].l;
#pragma unroll
    for (int c = 0; c < kChunks * kCols; ++c)
      rO[r][c] = softmax[r].empty() ? 0 : rO[r][c] * inverse;
    if (args.lse.data != nullptr && lane == 0 && row0 + r < rows) {
      float* gLse = static_cast<float*>(args.lse.data) + batch * args.lse.batch +
                    head * args.lse.head + i0 * args.lse.row;
      gLse[(row0 + r) * args.lse.row] = softmax[r].lse(kLog2E);
    }
  }
  T* gO =
      static_cast<T*>(args.o.data) + batch * args.o.batch + head * args.o.head + i0 * args.o.row;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (c * kChunk >= args.d_v) break;
    __syncthreads();  // all warps have read P, or stored the chunk before
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      Tile::float4_at(&smem.qp[row0 + r][lane * kCols]) = make_float4(
          rO[r][c * kCols], rO[r][c * kCols + 1], rO[r][c * kCols + 2], rO[r][c * kCols + 3]);
    __syncthreads();  // the chunk of O is there
    Tile::store(smem.qp, gO + c * kChunk, args.o.row, rows, args.d_v - c * kChunk);
  }
}

}  // namespace qkv::kernels
