// simt_forward: O = softmax(scale * Q K^T) V and LSE on plain CUDA cores, fp32 arithmetic.
//
// One block computes kTileQ query rows of one (batch, head): it walks over the keys that any of
// these rows sees, kTileKv at a time, and over d_qk and d_v, kChunk at a time. A row belongs to 16
// lanes of one warp; of S a lane holds every 16th key, of O 4 adjacent columns of each chunk.
//
// Contract (qkv.h has the rest): elements need no alignment but their own; keys at or past the
// length are never read; keys hidden by the window get weight 0; P is rounded to the element type
// before P V, l sums the unrounded weights, O is rounded once; a row without a score above -inf
// gives O = +0 and LSE = -inf. No atomics: the result depends on the arguments alone.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/policy.h"

namespace qkv::kernels {

template <Type kType, int kMaxDim>
struct SimtForward {
  using T = Element<kType>;

  static constexpr SimtForwardPolicy kPolicy = simt_forward_policy(kMaxDim);
  static constexpr int kThreads = kPolicy.threads;
  static constexpr int kTileQ = kPolicy.tile_q;
  static constexpr int kTileKv = kPolicy.tile_kv;
  static constexpr int kChunk = kSimtForwardChunk;
  static constexpr int kPitch = kSimtForwardPitch;
  static constexpr int kLanes = 16;                           // that share a row
  static constexpr int kRows = kTileQ / (kThreads / kLanes);  // of S and O in a thread
  static constexpr int kKeys = kTileKv / kLanes;              // of S in a thread
  static constexpr int kCols = kChunk / kLanes;               // of a chunk of O in a thread
  static constexpr int kChunks = kMaxDim / kChunk;            // of O

  static_assert(kPolicy.max_dim == kMaxDim && kMaxDim % kChunk == 0);
  static_assert(kThreads % kChunk == 0 && kThreads % 32 == 0 && kTileQ % (kThreads / kLanes) == 0);
  static_assert(kTileKv % kLanes == 0 && kTileKv <= kChunk, "P takes Q's place");
  static_assert(kCols == 4, "a lane's columns of V and O are one float4");

  // Rows are padded so that 8 rows of a column of float4 lie on 32 different banks.
  struct Smem {
    alignas(16) float qp[kTileQ][kPitch];   // a chunk of Q, then P, at last a chunk of O
    alignas(16) float kv[kTileKv][kPitch];  // a chunk of K, then of V
  };
  static_assert(sizeof(Smem) == simt_forward_smem_bytes(kPolicy));

  static __device__ float4& float4_at(float* s) { return *reinterpret_cast<float4*>(s); }
  static __device__ float4 float4_at(const float* s) { return *reinterpret_cast<const float4*>(s); }

  // s[:][:] = g[0 .. rows)[0 .. cols), and 0 beyond; lanes run along a row of g, each with kWidth
  // adjacent elements.
  template <int kWidth, int kTile>
  static __device__ void load(float (&s)[kTile][kPitch], const T* g, int64_t g_row, int rows,
                              int cols) {
    struct alignas(kWidth * sizeof(T)) Elements {
      T x[kWidth];
    };
    constexpr int kAcross = kChunk / kWidth, kStep = kThreads / kAcross;
    static_assert(kTile % kStep == 0);
    const int row0 = threadIdx.x / kAcross, col = threadIdx.x % kAcross * kWidth;
    g += row0 * g_row + col;
#pragma unroll 8
    for (int row = 0; row < kTile; row += kStep, g += kStep * g_row) {
      Elements e = {};
      if (row0 + row < rows && col < cols) e = *reinterpret_cast<const Elements*>(g);
      if constexpr (kWidth == 4)
        float4_at(&s[row0 + row][col]) =
            make_float4(to_float(e.x[0]), to_float(e.x[1]), to_float(e.x[2]), to_float(e.x[3]));
      else
        s[row0 + row][col] = to_float(e.x[0]);
    }
  }

  template <int kTile>
  static __device__ void load(float (&s)[kTile][kPitch], const T* g, int64_t g_row, int rows,
                              int cols, bool aligned) {
    if (aligned)
      load<4>(s, g, g_row, rows, cols);
    else
      load<1>(s, g, g_row, rows, cols);
  }

  // Rows of `dim` elements can be read 4 elements at a time.
  static __device__ bool aligned(const Tensor& t, int dim) {
    const int64_t offsets = t.batch | t.head | t.row | dim;
    return offsets % 4 == 0 && reinterpret_cast<uintptr_t>(t.data) % (4 * sizeof(T)) == 0;
  }

  // g[0 .. rows)[0 .. cols) = s, rounded.
  static __device__ void store(const float (&s)[kTileQ][kPitch], T* g, int64_t g_row, int rows,
                               int cols) {
    const int col = threadIdx.x % kChunk;
    if (col >= cols) return;
    for (int row = threadIdx.x / kChunk; row < rows; row += kThreads / kChunk)
      g[row * g_row + col] = from_float<T>(s[row][col]);
  }

  // rS += Q K^T over one chunk of `cols` dims.
  static __device__ void multiply_qk(float (&rS)[kRows][kKeys], const Smem& smem, int row0,
                                     int lane, int cols) {
#pragma unroll 1
    for (int d = 0; d < cols; d += 4) {
      float4 k[kKeys];
#pragma unroll
      for (int j = 0; j < kKeys; ++j) k[j] = float4_at(&smem.kv[lane + j * kLanes][d]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 q = float4_at(&smem.qp[row0 + r][d]);
#pragma unroll
        for (int j = 0; j < kKeys; ++j) {
          rS[r][j] = fmaf(q.x, k[j].x, rS[r][j]);
          rS[r][j] = fmaf(q.y, k[j].y, rS[r][j]);
          rS[r][j] = fmaf(q.z, k[j].z, rS[r][j]);
          rS[r][j] = fmaf(q.w, k[j].w, rS[r][j]);
        }
      }
    }
  }

  // rO[:][first .. first + 4) += P V over the first `keys` keys of the tile.
  static __device__ void multiply_pv(float (&rO)[kRows][kChunks * kCols], int first,
                                     const Smem& smem, int row0, int lane, int keys) {
#pragma unroll 1
    for (int j = 0; j < keys; j += 4) {
      float4 v[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = float4_at(&smem.kv[j + i][lane * kCols]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 p4 = float4_at(&smem.qp[row0 + r][j]);
        const float p[4] = {p4.x, p4.y, p4.z, p4.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          rO[r][first + 0] = fmaf(p[i], v[i].x, rO[r][first + 0]);
          rO[r][first + 1] = fmaf(p[i], v[i].y, rO[r][first + 1]);
          rO[r][first + 2] = fmaf(p[i], v[i].z, rO[r][first + 2]);
          rO[r][first + 3] = fmaf(p[i], v[i].w, rO[r][first + 3]);
        }
      }
    }
  }

  template <class Op>
  static __device__ float reduce_row(float x, Op op) {
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2)
      x = op(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
  }
};

template <Type kType, int kMaxDim>
static __global__ void __launch_bounds__(SimtForward<kType, kMaxDim>::kThreads,
                                         simt_forward_policy(kMaxDim).min_blocks)
    simt_forward(const __grid_constant__ ForwardArgs args) {
  using Kernel = SimtForward<kType, kMaxDim>;
  using T = typename Kernel::T;
  constexpr int kTileQ = Kernel::kTileQ, kTileKv = Kernel::kTileKv, kChunk = Kernel::kChunk;
  constexpr int kLanes = Kernel::kLanes, kRows = Kernel::kRows, kKeys = Kernel::kKeys;
  constexpr int kCols = Kernel::kCols, kChunks = Kernel::kChunks;
  __shared__ typename Kernel::Smem smem;

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

  const bool q_aligned = Kernel::aligned(args.q, args.d_qk);
  const bool k_aligned = Kernel::aligned(args.k, args.d_qk);
  const bool v_aligned = Kernel::aligned(args.v, args.d_v);

  const KeyMask mask = key_mask(args, batch);
  const KeyRange any = mask.keys_of_any(i0, rows), all = mask.keys_of_all(i0, rows);
  const float scale = args.scale * kLog2E;

  // Invariant after each tile of keys, per row: m = max s; the lanes' l add up to sum 2^(s - m); rO
  // = sum 2^(s - m) V.
  OnlineSoftmax softmax[kRows];
  float rO[kRows][kChunks * kCols] = {};

  for (int left = any.end - any.begin; left > 0; left -= kTileKv) {
    const int j0 = any.end - left;
    const int keys = min(kTileKv, left);

    // S = Q K^T.
    float rS[kRows][kKeys] = {};
    for (int d0 = 0; d0 < args.d_qk; d0 += kChunk) {
      const int cols = min(kChunk, args.d_qk - d0);
      __syncthreads();  // all warps have read the chunk before: Q and K, or P and V
      Kernel::load(smem.qp, gQ + d0, args.q.row, rows, cols, q_aligned);
      Kernel::load(smem.kv, gK + j0 * args.k.row + d0, args.k.row, keys, cols, k_aligned);
      __syncthreads();  // Q and K are there
      Kernel::multiply_qk(rS, smem, row0, lane, cols);
    }

    // s = log2(e) * scale * S, -inf where hidden.
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kKeys; ++j) rS[r][j] *= scale;
    if (j0 < all.begin || all.end - j0 < kTileKv) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const KeyRange visible = mask.keys(int64_t{i0} + row0 + r);
#pragma unroll
        for (int j = 0; j < kKeys; ++j) {
          const int key = lane + j * kLanes;
          if (key < visible.begin - j0 || key >= visible.end - j0) rS[r][j] = -INFINITY;
        }
      }
    }

    // P = 2^(s - m).
    __syncthreads();  // all warps have read Q and K: P and V may take their places
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float s_max = rS[r][0];
#pragma unroll
      for (int j = 1; j < kKeys; ++j) s_max = fmaxf(s_max, rS[r][j]);
      const float shrink = softmax[r].raise(Kernel::reduce_row(s_max, fmaxf));
#pragma unroll
      for (int j = 0; j < kKeys; ++j) {
        const float p = softmax[r].weight(rS[r][j]);
        softmax[r].l += p;
        smem.qp[row0 + r][lane + j * kLanes] = round_to<T>(p);
      }
#pragma unroll
      for (int c = 0; c < kChunks * kCols; ++c) rO[r][c] *= shrink;
    }

    // O += P V.
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (c * kChunk >= args.d_v) break;
      if (c > 0) __syncthreads();  // all warps have read V of the chunk before
      Kernel::load(smem.kv, gV + j0 * args.v.row + c * kChunk, args.v.row, keys,
                   args.d_v - c * kChunk, v_aligned);
      __syncthreads();  // P and V are there
      Kernel::multiply_pv(rO, c * kCols, smem, row0, lane, keys);
    }
  }

  // Epilogue.
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    softmax[r].l = Kernel::reduce_row(softmax[r].l, [](float a, float b) { return a + b; });
    const float inverse = 1 / softmax[r].l;
#pragma unroll
    for (int c = 0; c < kChunks * kCols; ++c)
      rO[r][c] = softmax[r].empty() ? 0 : rO[r][c] * inverse;
    if (args.lse.data != nullptr && lane == 0 && row0 + r < rows) {
      float* gLse = static_cast<float*>(args.lse.data) + batch * args.lse.batch +
                    head * args.lse.head + i0 * args.lse.row;
      gLse[(row0 + r) * args.lse.row] = softmax[r].lse();
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
      Kernel::float4_at(&smem.qp[row0 + r][lane * kCols]) = make_float4(
          rO[r][c * kCols], rO[r][c * kCols + 1], rO[r][c * kCols + 2], rO[r][c * kCols + 3]);
    __syncthreads();  // the chunk of O is there
    Kernel::store(smem.qp, gO + c * kChunk, args.o.row, rows, args.d_v - c * kChunk);
  }
}

}  // namespace qkv::kernels
