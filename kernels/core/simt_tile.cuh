// Tiles of Q, K, V, S and O for the kernels that compute on plain CUDA cores, in fp32, with any
// alignment. A block is kThreads / 16 groups of 16 lanes; a group computes kRows adjacent rows of S
// and O. Of a row of S a lane holds every 16th key, of a row of O 4 adjacent columns of each chunk
// of kChunk.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/simt_smem.h"

namespace qkv::kernels {

template <class T, int kThreads, int kTileQ, int kTileKv>
struct SimtTile {
  static constexpr int kChunk = kSimtChunk;
  static constexpr int kPitch = kSimtPitch;
  static constexpr int kLanes = 16;                           // that share a row
  static constexpr int kRows = kTileQ / (kThreads / kLanes);  // of S and O in a thread
  static constexpr int kKeys = kTileKv / kLanes;              // of S in a thread
  static constexpr int kCols = kChunk / kLanes;               // of a chunk of O in a thread

  static_assert(kThreads % kChunk == 0 && kThreads % 32 == 0 && kTileQ % (kThreads / kLanes) == 0);
  static_assert(kTileKv % kLanes == 0 && kTileKv <= kChunk, "P lies where Q was");
  static_assert(kCols == 4, "a lane's columns of V and O are one float4");

  // Rows are padded so that 8 rows of a column of float4 lie on 32 different banks.
  struct Smem {
    alignas(16) float qp[kTileQ][kPitch];   // a chunk of Q, then P, at last a chunk of O
    alignas(16) float kv[kTileKv][kPitch];  // a chunk of K, then of V
  };

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
  template <int kColumns>
  static __device__ void multiply_pv(float (&rO)[kRows][kColumns], int first, const Smem& smem,
                                     int row0, int lane, int keys) {
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

}  // namespace qkv::kernels
