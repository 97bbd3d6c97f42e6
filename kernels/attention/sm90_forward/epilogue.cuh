// sm90_forward's epilogue: O and LSE from registers to memory, each warp its own 16 rows.
#pragma once

#include "kernels/attention/sm90_forward/shared.cuh"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/ptx/stmatrix.h"

namespace qkv::kernels {

template <class T, int kDimQk, int kDimV, bool kRules, class Softmax>
struct Sm90Epilogue {
  using Shared = Sm90Shared<T, kDimQk, kDimV, kRules>;
  using QRing = typename Shared::QRing;

  // O and LSE of a warp's rows; with more than one split into the workspace, for combine.
  static __device__ void write(const Sm90ForwardArgs& args, Shared& shared, const QRing& q,
                               float (&rO)[kDimV / 2], Softmax (&softmax)[2], float factor) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int warp_row = warp * kSm90WarpRows;       // in the tile
    const WorkTile at = shared.work[q.work()].tile;  // in registers before they are needed
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Softmax& of_row = softmax[half];
      of_row.l = quad_sum(of_row.l);
      inverse[half] = 1 / of_row.l;
    }
    if (args.partials.o == nullptr) store(args, shared, q.stage(), at, rO, softmax, inverse);
    const Tensor& lse = args.forward.lse;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int in_tile = warp_row + half * 8 + lane / 4;
      if (in_tile >= at.rows) continue;
      const int i = args.schedule.query(at.row + in_tile);
      const int head = at.head + args.schedule.member(at.row + in_tile, i);
      if (args.partials.o == nullptr) {
        if (lse.data != nullptr && lane % 4 == 0)
          static_cast<float*>(lse.data)[at.batch * lse.batch + head * lse.head + i * lse.row] =
              softmax[half].lse(factor);
        continue;
      }
      const int64_t row = Partials::row(args.forward, at.split, at.batch, head, i);
      if (lane % 4 == 0) args.partials.lse[row] = softmax[half].split_lse(factor);
      if (softmax[half].empty()) continue;
      float* to = args.partials.o + row * args.forward.d_v + lane % 4 * 2;
#pragma unroll
      for (int d = 0; d < kDimV; d += 8)
        if (d < args.forward.d_v)
          *reinterpret_cast<float2*>(to + d) = make_float2(
              rO[d / 2 + half * 2] * inverse[half], rO[d / 2 + half * 2 + 1] * inverse[half]);
    }
  }

  // O through the place of the warp's rows of Q in shared memory, which nobody reads any more, by
  // TMA. Who releases the stage waits for the store to have read it.
  static __device__ void store(const Sm90ForwardArgs& args, Shared& shared, uint32_t stage,
                               const WorkTile& at, const float (&rO)[kDimV / 2],
                               const Softmax (&softmax)[2], const float (&inverse)[2]) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int warp_row = warp * kSm90WarpRows;  // in the tile
    auto* const panels = shared.q[stage][warp_row / kSm90Rows];
    const int row = warp_row % kSm90Rows;
    const uint32_t to = shared_address(panels[0][row + lane % 16]);
#pragma unroll
    for (int d = 0; d < kDimV / 16; ++d) {
      uint32_t o[4];
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const float* pair = &rO[d * 8 + x * 2];
        o[x] = pack<T>(pair[0] * inverse[x % 2], pair[1] * inverse[x % 2]);
        if (softmax[x % 2].empty()) o[x] = 0;
      }
      constexpr int kSteps = kSm90Panel / 16;             // of 16 dims in a panel
      const uint32_t chunk = d % kSteps * 2 + lane / 16;  // of 16 bytes; swizzled by the row
      ptx::stmatrix_x4(to + d / kSteps * sizeof panels[0] + (chunk ^ lane % 8) * 16, o);
    }
    ptx::fence_proxy_async();
    __syncwarp();
    if (lane == 0 && warp_row < at.rows) {
      for (int panel = 0; panel < Shared::kShape.panels_v(); ++panel)
        ptx::cp_async_bulk_tensor_store(
            &args.o,
            {panel * kSm90Panel, 0, args.schedule.query(at.row + warp_row), set_of(args, at),
             at.batch},
            shared_address(panels[panel][row]));
      ptx::cp_async_bulk_commit_group();
    }
  }
};

}  // namespace qkv::kernels
