// sm90_wide's epilogue: O and LSE from registers to memory, each warp its own 16 rows of its
// warpgroup's columns.
#pragma once

#include "kernels/attention/sm90_wide/shared.cuh"
#include "kernels/core/numeric.cuh"
#include "kernels/ptx/stmatrix.h"

namespace qkv::kernels {

template <class T>
struct Sm90WideEpilogue {
  using Shared = Sm90WideShared<T>;

  const Sm90WideArgs& args;
  Shared& shared;
  const int warpgroup, panels;  // the warpgroup's, of O
  const float (&rO)[128];       // sums of P V
  const float (&inverse)[2];    // 1 / l of the lane's rows, below 0 for a row without weights

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int warp_row() {
    return static_cast<int>(threadIdx.x) / 32 % 4 * kSm90WideWarpRows;
  }

  // The rows' results, or with more than one split the rows' partial results, for combine.
  // `lse(half)` and `split_lse(half)` are asked in warpgroup 0 alone.
  template <class Lse, class Split>
  __device__ void write(const Lse& lse, const Split& split_lse) const {
    if (args.partials.o == nullptr) store();
    const WorkTile& at = shared.work.tile;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int in_tile = warp_row() + half * 8 + lane() / 4;
      if (in_tile >= at.rows) continue;
      const int i = args.schedule.query(at.row + in_tile);
      const int head = at.head + args.schedule.member(at.row + in_tile, i);
      const bool tells = warpgroup == 0 && lane() % 4 == 0;
      if (args.partials.o == nullptr) {
        const Tensor& to = args.forward.lse;
        if (to.data != nullptr && tells)
          static_cast<float*>(to.data)[at.batch * to.batch + head * to.head + i * to.row] =
              lse(half);
        continue;
      }
      const int64_t row = Partials::row(args.forward, at.split, at.batch, head, i);
      if (tells) args.partials.lse[row] = split_lse(half);
      if (inverse[half] < 0) continue;
      const int column = warpgroup * kSm90WideHalf * kSm90WidePanel;
      float* to = args.partials.o + row * args.forward.d_v + column + lane() % 4 * 2;
#pragma unroll
      for (int d = 0; d < kSm90WideHalf * kSm90WidePanel; d += 8)
        if (column + d < args.forward.d_v)
          *reinterpret_cast<float2*>(to + d) = make_float2(
              rO[d / 2 + half * 2] * inverse[half], rO[d / 2 + half * 2 + 1] * inverse[half]);
    }
  }

  // O through the place of the warp's rows of Q in shared memory, which nobody reads any more, by
  // TMA; waits until it is read.
  __device__ void store() const {
    auto* const to = &shared.q[warpgroup * kSm90WideHalf];
    const uint32_t row = shared_address(to[0][warp_row() + lane() % 16]);
    constexpr int kSteps = kSm90WidePanel / 16;  // of 16 dims in a panel
#pragma unroll
    for (int d = 0; d < kSm90WideHalf * kSteps; ++d) {
      if (d / kSteps >= panels) break;
      uint32_t o[4];
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const float* pair = &rO[d * 8 + x * 2];
        o[x] = pack<T>(pair[0] * inverse[x % 2], pair[1] * inverse[x % 2]);
        if (inverse[x % 2] < 0) o[x] = 0;
      }
      const int chunk = d % kSteps * 2 + lane() / 16;  // of 16 bytes; swizzled by the row
      ptx::stmatrix_x4(row + d / kSteps * static_cast<uint32_t>(sizeof to[0]) +
                           static_cast<uint32_t>((chunk ^ lane() % 8) * 16),
                       o);
    }
    ptx::fence_proxy_async();
    __syncwarp();
    const WorkTile& at = shared.work.tile;
    if (lane() != 0 || warp_row() >= at.rows) return;
    for (int panel = 0; panel < panels; ++panel)
      ptx::cp_async_bulk_tensor_store(
          &args.o,
          {(warpgroup * kSm90WideHalf + panel) * kSm90WidePanel, 0,
           args.schedule.query(at.row + warp_row()), set_of(args, at), at.batch},
          shared_address(to[panel][warp_row()]));
    ptx::cp_async_bulk_commit_group();
    ptx::cp_async_bulk_wait_group_read();
  }
};

}  // namespace qkv::kernels
