// sm90_wide's product P V, which its math warpgroups share.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_wide/shared.cuh"
#include "kernels/core/numeric.cuh"
#include "kernels/ptx/barrier.h"
#include "kernels/ptx/opaque.h"
#include "kernels/ptx/wgmma.h"
#include "kernels/ptx/wgmma_mn.h"

namespace qkv::kernels {

// What the math warpgroups share: half of O, and the way of pieces through the ring. All of it is
// inlined, so that members are registers.
template <Type kType, int kWarpgroup>
struct Sm90WideMath {
  using T = Element<kType>;
  using Shared = Sm90WideShared<T>;

  const Sm90WideArgs& args;
  Shared& shared;
  Sm90WideRing ring;  // the next piece of the warpgroup's own
  uint32_t phases;    // for each stage a bit: the parity of its next piece of the warpgroup's
  Sm90WideTurn turn;  // the next buffer of P
  float rO[128];      // sums of P V, 64 rows by 256 columns, as wgmma's accumulators

  __device__ Sm90WideMath(const Sm90WideArgs& args, Shared& shared)
      : args(args), shared(shared), phases(0) {
#pragma unroll
    for (float& o : rO) o = 0;
  }

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int warp_row() {
    return static_cast<int>(threadIdx.x) / 32 % 4 * kSm90WideWarpRows;
  }
  // The warpgroup's panels of O; none, or fewer, where d_v is small.
  __device__ int panels() const {
    return max(min(args.panels_v - kWarpgroup * kSm90WideHalf, kSm90WideHalf), 0);
  }

  // A barrier of the warpgroup's own.
  __device__ static void sync_warpgroup() {
    ptx::barrier_sync(1 + kWarpgroup, kSm90WideWarpgroupThreads);
  }

  __device__ void wait_piece() {
    const uint32_t stage = ring.stage();
    ptx::mbarrier_wait(shared_address(&shared.full[kWarpgroup][stage]), phases >> stage & 1);
    phases ^= 1u << stage;
  }
  // Releases the piece before the ring's place.
  __device__ void release_before() {
    release_stage(shared, (ring.number - 1) % kSm90WideStages, args.cluster);
  }
  // Of a barrier that lane 0 of each warp arrives at.
  __device__ static void arrive(uint64_t& barrier) {
    __syncwarp();
    if (lane() == 0) ptx::mbarrier_arrive(shared_address(&barrier));
  }

  __device__ void rescale_o(const float (&rescale)[2]) {
#pragma unroll
    for (int x = 0; x < 128; ++x) rO[x] *= rescale[x / 2 % 2];
    ptx::wgmma_keep(rO);
  }

  static constexpr uint32_t kEightRows = 8 * kSm90WidePanelBytes;  // the swizzle's period
  // Opaque: descriptors are computed again where they are used, not held in registers.
  __device__ static uint64_t k_major(const void* panel) {
    const int address = ptx::opaque(static_cast<int>(shared_address(panel)));
    return ptx::wgmma_at(ptx::wgmma_descriptor(0, kEightRows), static_cast<uint32_t>(address));
  }
  __device__ uint64_t sV() const {
    return ptx::wgmma_at(ptx::wgmma_descriptor(kSm90WideBoxBytes, kEightRows),
                         shared_address(shared.ring[ring.stage()]));
  }

  // Rows of V at or past the length may hold NaN, and 0 x NaN is NaN: the warpgroup sets them to 0
  // in shared memory. The tensor's own end needs no such care, TMA fills with 0 beyond it.
  __device__ void clear_tail(int first_key) {
    const int keys = shared.work.mask.length - first_key;
    if (keys >= min(args.forward.s_kv - first_key, kSm90WideBoxKeys)) return;
    const int thread = static_cast<int>(threadIdx.x) % kSm90WideWarpgroupThreads;
    constexpr int kChunks = kSm90WidePanelBytes / 16;  // of 16 bytes in a panel's row
    auto* const box = shared.ring[ring.stage()][thread / 32];
    if (thread / 32 < panels())
      for (int key = max(keys, 0) + lane() / kChunks; key < kSm90WideBoxKeys; key += 32 / kChunks)
        reinterpret_cast<uint4*>(box[key])[lane() % kChunks] = uint4{};
    ptx::fence_proxy_async();
    sync_warpgroup();
  }

  // rO += P V for the 32 keys of the ring's piece, asynchronously. Descriptors count in units of
  // 16 bytes.
  template <int kPanels>
  __device__ void multiply_piece(uint64_t p) {
    constexpr int kStep = 16 * kSm90WidePanelBytes / 16;  // to V's next 16 keys
    const uint64_t v = sV();
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kSm90WideBoxKeys / 16; ++k)
      ptx::wgmma_m64k16_mn<T, kPanels * kSm90WidePanel>(rO, p + k * 2, v + k * kStep);
    ptx::wgmma_commit_group();
  }

  // rO += P V for a block of keys, piece by piece. The last piece's product is under way at the
  // end, its stage is not released: it is the ring's last.
  __device__ void multiply_pv(int block) {
    const int of_o = panels();
    constexpr int kPanelOfP = kSm90WideRows * kSm90WidePanelBytes / 16;
    const uint64_t p = k_major(shared.p[turn.buffer()]);
#pragma unroll
    for (int piece = 0; piece < kSm90WidePiecesV; ++piece) {
      wait_piece();
      clear_tail(block * kSm90WideTileKv + piece * kSm90WideBoxKeys);
      const uint64_t p_piece = p + piece / 2 * kPanelOfP + piece % 2 * 4;
      if (of_o == 4)
        multiply_piece<4>(p_piece);
      else if (of_o == 3)
        multiply_piece<3>(p_piece);
      else if (of_o == 2)
        multiply_piece<2>(p_piece);
      else
        multiply_piece<1>(p_piece);
      if (piece > 0) {
        ptx::wgmma_wait_all_but_one();
        release_before();
      }
      ++ring.number;
    }
  }
};

}  // namespace qkv::kernels
