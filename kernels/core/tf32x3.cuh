// Q K^T of fp32 tensors on the tensor cores of sm_80 and sm_90: every operand is a sum of tf32
// numbers, x = big + small, and a product is big big + big small + small big. What is left out,
// small small, is 2^-22 of it.
//
// Tensor cores add with truncation. So they add up at most 16 dims from zero; these sums are added
// to S as fp32 does, and small products apart from big ones. Scores that this cannot compute are
// computed again by plain fp32 arithmetic.
#pragma once

#include <cstdint>

#include "kernels/core/swizzled_tile.cuh"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma.h"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

// x to the 11 significant bits of tf32: by truncation, as mma reads its operands, and to nearest.
// The rest, x - rounded(x), has 12 bits at most; of NaN and infinity it is NaN.
__device__ inline float tf32_truncated(float x) {
  return __uint_as_float(__float_as_uint(x) & 0xffffe000u);
}
__device__ inline float tf32_rounded(float x) {
  return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u);
}

// kTileQ rows of Q, 16 for each warp, by kTileKv keys, both in shared memory. S is in fragments as
// core/score_fragment.cuh draws them.
template <int kDim, int kTileQ, int kTileKv, int kThreads>
struct Tf32x3Scores {
  static constexpr int kN = kTileKv / 8;  // 8-key fragments of S
  static_assert(kTileQ == 16 * kThreads / 32 && kTileKv % 8 == 0);
  using QTile = SwizzledTile<float, kTileQ, kDim, kThreads>;
  using KTile = SwizzledTile<float, kTileKv, kDim, kThreads>;

  // rS = Q K^T for the warp's rows.
  static __device__ void multiply(float (&rS)[kN][4], QTile sQ, KTile sK, int warp_row, int lane) {
    float small[kN][4];
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x) rS[n][x] = small[n][x] = 0;
    const uint32_t q0 = sQ.at(warp_row + lane % 16, lane / 16);
    const uint32_t k0 = sK.at(lane % 8, lane / 8);
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      __syncwarp();  // ptxas must not move loads up past here: it would run out of registers
      float q_big[2][4], q_small[2][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t q[4];
        ptx::ldmatrix_x4(q, QTile::right_of(q0, 4 * d + 2 * half));
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          q_big[half][x] = tf32_rounded(__uint_as_float(q[x]));
          q_small[half][x] = __uint_as_float(q[x]) - q_big[half][x];
        }
      }
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        uint32_t k[4];
        ptx::ldmatrix_x4(k, KTile::right_of(k0, 4 * d) + n * 8 * kDim * 4);
        float k_big[4], k_small[4];
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          k_big[x] = tf32_rounded(__uint_as_float(k[x]));
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

  // Whether small, the rest of x, may be subnormal, of which tf32 has only the upper bits.
  static __device__ bool is_tiny(float x) { return x != 0 && fabsf(x) < 0x1p-100f; }

  // Whether there are such elements among those of a tile that this thread itself has copied, its
  // copies being complete. The tile's base is an offset into smem.
  template <class Tile>
  static __device__ bool has_tiny(const unsigned char* smem, Tile tile) {
    constexpr int kStep = kThreads / Tile::kChunks, kRows = Tile::kBytes / (Tile::kChunks * 16);
    const int thread = ptx::opaque(static_cast<int>(threadIdx.x));
    uint32_t least = 0xffffffffu;
#pragma unroll
    for (int row = 0; row < kRows; row += kStep) {
      const float4 x4 = *reinterpret_cast<const float4*>(
          smem + tile.at(row + thread / Tile::kChunks, thread % Tile::kChunks));
      for (const float x : {x4.x, x4.y, x4.z, x4.w})
        least = min(least, 2 * __float_as_uint(x) - 1);  // without the sign; 0 becomes the largest
    }
    return least < 2 * __float_as_uint(0x1p-100f) - 1;
  }

  // Computes those scores again that are not finite. The tiles' bases are offsets into smem.
  static __device__ void repair(float (&rS)[kN][4], const unsigned char* smem, QTile q_tile,
                                KTile k_tile) {
    if (all_finite(rS)) return;
    float again[kN][4] = {};
    multiply_plainly(
        again, smem, q_tile, k_tile, [](float, float) {}, [](int, float) {});
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x)
        if (!(fabsf(rS[n][x]) < INFINITY)) rS[n][x] = again[n][x];
  }

  // The same, and where `tiny`, of all lanes of a warp alike, says that there are tiny elements,
  // those of their rows and keys: which way a score is computed depends on its own row and key
  // alone.
  static __device__ void repair_with_tiny(float (&rS)[kN][4], const unsigned char* smem,
                                          QTile q_tile, KTile k_tile, bool tiny) {
    if (all_finite(rS) && !tiny) return;
    float again[kN][4] = {};
    bool tiny_q[2] = {};
    uint32_t tiny_k = 0;  // bit 2 n + x
    multiply_plainly(
        again, smem, q_tile, k_tile,
        [&](float q0, float q1) {
          tiny_q[0] = tiny_q[0] || is_tiny(q0);
          tiny_q[1] = tiny_q[1] || is_tiny(q1);
        },
        [&](int of, float k) { tiny_k |= uint32_t{is_tiny(k)} << of; });
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const bool of_tiny = tiny_q[x / 2] || (tiny_k >> (2 * n + x % 2) & 1) != 0;
        if (of_tiny || !(fabsf(rS[n][x]) < INFINITY)) rS[n][x] = again[n][x];
      }
  }

 private:
  // Of the whole warp.
  static __device__ bool all_finite(const float (&rS)[kN][4]) {
    bool finite = true;
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x) finite = finite && fabsf(rS[n][x]) < INFINITY;
    return __all_sync(0xffffffffu, finite) != 0;
  }

  // S = Q K^T as fp32 does it, from zero. Each element is shown: of the lane's two rows, and of its
  // keys by number.
  template <class SeeQ, class SeeK>
  static __device__ void multiply_plainly(float (&rS)[kN][4], const unsigned char* smem,
                                          QTile q_tile, KTile k_tile, SeeQ&& see_q, SeeK&& see_k) {
    const int thread = ptx::opaque(static_cast<int>(threadIdx.x)), lane = thread % 32;
    const int row = thread / 32 * 16 + lane / 4;
#pragma unroll 1
    for (int d = 0; d < kDim; ++d) {
      const auto at = [&](const auto& tile, int row) {
        return *reinterpret_cast<const float*>(smem + tile.at(row, d / 4) + d % 4 * 4);
      };
      const float q0 = at(q_tile, row), q1 = at(q_tile, row + 8);
      see_q(q0, q1);
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          const float k = at(k_tile, n * 8 + lane % 4 * 2 + x);
          see_k(2 * n + x, k);
          rS[n][x] = fmaf(q0, k, rS[n][x]);
          rS[n][2 + x] = fmaf(q1, k, rS[n][2 + x]);
        }
    }
  }
};

}  // namespace qkv::kernels
