// sm90_forward's arithmetic of one block of keys, in the registers of a math warpgroup: products by
// wgmma, softmax between them.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/ptx/wgmma.h"

namespace qkv::kernels {

template <Type kType, int kDimQk, int kDimV, bool kRules>
struct Sm90Block {
  static constexpr Sm90Shape kShape = *sm90_shape(kDimQk, kDimV, kRules);
  static constexpr int kTileKv = kShape.tile_kv, kHalfBlock = kShape.half;
  using T = Element<kType>;
  using Softmax = OnlineSoftmax<softmax_carry(kType)>;

  // A warpgroup's S and O, as wgmma's accumulators, and P, as its A operand in registers. Of its
  // warp's 16 rows a lane has rows lane / 4 and + 8 ("halves" 0 and 1), and of every 8 columns
  // 2 (lane % 4) and + 1: element n / 2 + 2 half + x is column n + 2 (lane % 4) + x, n = 0, 8, ...
  using Scores = float[kTileKv / 2];
  using Output = float[kDimV / 2];
  using PackedP = uint32_t[kTileKv / 16][4];
  static_assert(kSm90Rows == 64 && kTileKv % 16 == 0 && kHalfBlock % 16 == 0, "wgmma m64nNk16");

  // rS = Q K^T for the first kKeys keys of the block, asynchronously. Descriptors count in units of
  // 16 bytes.
  template <int kKeys>
  static __device__ void multiply_qk(Scores& rS, uint64_t q, uint64_t k) {
    constexpr int kSteps = kSm90Panel / 16;                    // of 16 dims in a panel
    constexpr int kStep = kSm90PanelBytes / kSteps / 16;       // to the next 16 dims
    constexpr int kQPanel = kSm90Rows * kSm90PanelBytes / 16;  // to the next panel of Q
    constexpr int kKPanel = kTileKv * kSm90PanelBytes / 16;    // of K
    ptx::wgmma_fence();
#pragma unroll
    for (int d = 0; d < kDimQk / 16; ++d) {
      const uint64_t q_d = q + d / kSteps * kQPanel + d % kSteps * kStep;
      const uint64_t k_d = k + d / kSteps * kKPanel + d % kSteps * kStep;
      if (d == 0)
        ptx::wgmma<T, kKeys, false>(rS, q_d, k_d);
      else
        ptx::wgmma<T, kKeys, true>(rS, q_d, k_d);
    }
    ptx::wgmma_commit_group();
  }

  // rO = P V, or += if `add`, for the first kKeys keys of the block, asynchronously.
  template <int kKeys>
  static __device__ void multiply_pv(Output& rO, const PackedP& rP, uint64_t v, int add) {
    constexpr int kStep = 16 * kSm90PanelBytes / 16;  // to the next 16 keys
    ptx::wgmma_fence();
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j)
      ptx::wgmma<T, kDimV>(rO, rP[j], v + j * kStep, j == 0 ? add : 1);
    ptx::wgmma_commit_group();
  }

  // rS = tanh(rS scale / softcap); the exponential's factor is then softcap log2(e).
  static __device__ void apply_softcap(Scores& rS, float inverse) {
#pragma unroll
    for (float& s : rS) s = tanhf(s * inverse);
  }

  // rS = -inf where a row does not see the key; `key` is the lane's first.
  template <int kKeys>
  static __device__ void apply_mask(Scores& rS, const KeyRange (&visible)[2], int key) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int begin = visible[half].begin - key, end = visible[half].end - key;
#pragma unroll
      for (int n = 0; n < kKeys; n += 8)
#pragma unroll
        for (int x = 0; x < 2; ++x)
          if (n + x < begin || n + x >= end) rS[n / 2 + half * 2 + x] = -INFINITY;
    }
  }

  // m over the scores of the block as well; `rescale` is for the sums of O so far. Returns whether
  // a row's shift is too coarse.
  template <int kKeys>
  static __device__ bool raise_max(const Scores& rS, Softmax (&softmax)[2], float (&rescale)[2],
                                   float factor) {
    constexpr int kScores = kKeys / 2;  // of a lane, both halves
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float s_max[2] = {rS[half * 2], rS[half * 2 + 1]};  // two chains, half as long
#pragma unroll
      for (int n = 4; n < kScores; n += 4)
#pragma unroll
        for (int x = 0; x < 2; ++x) s_max[x] = fmaxf(s_max[x], rS[n + half * 2 + x]);
      rescale[half] = softmax[half].raise(quad_max(fmaxf(s_max[0], s_max[1])), factor);
    }
    const float largest = fmaxf(fabsf(softmax[0].base()), fabsf(softmax[1].base()));
    return __any_sync(0xffffffffu, largest * factor >= kCoarseExponent);
  }

  // rS = P for keys kFrom to kTo - 1 of the block, added to l.
  template <int kFrom, int kTo, bool kCoarse>
  static __device__ void exponentials(Scores& rS, Softmax (&softmax)[2], float factor) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float shift = softmax[half].shift(factor);
#pragma unroll
      for (int n = kFrom / 2; n < kTo / 2; n += 4)
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          float& s = rS[n + half * 2 + x];
          s = kCoarse ? softmax[half].careful_weight(s, factor)
                      : ptx::ex2_approx_ftz(fmaf(s, factor, shift));
          softmax[half].l += s;
        }
    }
  }

  // P rounded to T and packed: a lane's accumulators are its part of the A operand, in order.
  template <int kKeys>
  static __device__ void pack_p(PackedP& rP, const Scores& rS) {
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) rP[i / 4][i % 4] = pack<T>(rS[2 * i], rS[2 * i + 1]);
  }
};

}  // namespace qkv::kernels
