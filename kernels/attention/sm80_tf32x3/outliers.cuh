// Numbers that sm80_tf32x3 cannot split into tf32 parts. Outliers of V (NaN, infinity, and
// magnitudes outside 2^-100 to 2^100, whose parts or products with P might overflow or be
// subnormal) are taken out of the tile in shared memory, and their share of P V is added by plain
// fp32 arithmetic.
#pragma once

#include <cstdint>

#include "kernels/attention/sm80_tf32x3/policy.h"
#include "kernels/core/swizzled_tile.cuh"
#include "kernels/ptx/max_nan.h"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

template <int kDim, int kTileKv>
struct Sm80Tf32x3Outliers {
  static constexpr int kN = kTileKv / 8, kG = kDim / 16;
  using KvTile = SwizzledTile<float, kTileKv, kDim, kSm80Tf32x3Threads>;

  static __device__ bool is_outlier(float v) {
    return !(fabsf(v) < 0x1p100f) || (v != 0 && fabsf(v) < 0x1p-100f);
  }

  // Sets outliers to 0 among the elements of V that this thread itself has copied, its copies being
  // complete; returns whether there were outliers.
  static __device__ bool take_out(unsigned char* sV) {
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
      v = make_float4(is_outlier(v.x) ? 0 : v.x, is_outlier(v.y) ? 0 : v.y,
                      is_outlier(v.z) ? 0 : v.z, is_outlier(v.w) ? 0 : v.w);
    }
    return true;
  }

  // Stores the warp's P in sP, [16][kTileKv].
  static __device__ void store_p(const float (&rS)[kN][4], float* sP, int lane) {
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x)
        sP[(lane / 4 + x / 2 * 8) * kTileKv + n * 8 + lane % 4 * 2 + x % 2] = rS[n][x];
    __syncwarp();
  }

  // rO += P V for the outliers among the first `keys` rows of gV.
  static __device__ void add_pv(float (&rO)[kG][2][4], const float* sP, const float* gV,
                                int64_t g_row, int keys, int d_v) {
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
          if (!is_outlier(v[c])) continue;
          rO[g][c % 2][c / 2] = fmaf(p0, v[c], rO[g][c % 2][c / 2]);
          rO[g][c % 2][2 + c / 2] = fmaf(p1, v[c], rO[g][c % 2][2 + c / 2]);
        }
      }
    }
  }
};

}  // namespace qkv::kernels
