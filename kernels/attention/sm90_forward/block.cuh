// sm90_forward's arithmetic of one block of keys, in the registers of a math warpgroup: products by
// wgmma; core/warpgroup_scores.cuh has the softmax between them.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/ptx/wgmma.h"

namespace qkv::kernels {

template <Type kType, int kDimQk, int kDimV, bool kRules>
struct Sm90Block {
  static constexpr Sm90Shape kShape =
      *sm90_shape(kDimQk, kDimV, kRules ? Sm90Variant::kRules : Sm90Variant::kPlain);
  static constexpr int kTileKv = kShape.tile_kv, kHalfBlock = kShape.half;
  using T = Element<kType>;
  using Softmax = OnlineSoftmax<softmax_carry(kType)>;

  // A warpgroup's S and O, as wgmma's accumulators (which rows and columns a lane has:
  // core/warpgroup_scores.cuh), and P, as its A operand in registers.
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

  // Sums are rescaled where a row of the warp rises alone: as a context grows that gets rare. Where
  // exponentials are the limit, as with three warpgroups, so are l and its factor; elsewhere ptxas
  // would run out of registers (C7511).
  static constexpr bool kIfRises = kShape.warpgroups == 3;
  static __device__ void rescale_o(Output& rO, const float (&rescale)[2], bool rises) {
    if (!(kIfRises ? rises : __any_sync(0xffffffffu, rescale[0] != 1 || rescale[1] != 1))) return;
#pragma unroll
    for (int x = 0; x < kDimV / 2; ++x) rO[x] *= rescale[x / 2 % 2];
  }

  // P rounded to T and packed: a lane's accumulators are its part of the A operand, in order.
  template <int kKeys>
  static __device__ void pack_p(PackedP& rP, const Scores& rS) {
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) rP[i / 4][i % 4] = pack<T>(rS[2 * i], rS[2 * i + 1]);
  }
};

}  // namespace qkv::kernels
