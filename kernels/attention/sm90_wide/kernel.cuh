// sm90_wide: O = softmax(S) V and LSE on Hopper for head dims up to kSm90WideDim, with TMA,
// mbarriers and wgmma. fp16 and bf16.
//
// A thread block computes one tile of kSm90WideRows query rows. O's sums take half of the register
// file: two math warpgroups have half of the columns each. Warpgroup 0 computes S and the softmax,
// leaves P in shared memory and multiplies it by its columns of V; warpgroup 1 multiplies the same
// P by the other columns while warpgroup 0 is at the next block's softmax, so that the tensor cores
// have work all the time. A producer warp copies Q, and pieces of K and V through a ring. The
// blocks of a cluster have tiles with the same keys: each copies a part of K and V into all of
// them. kernels/README.md draws it.
//
// Contract (qkv.h has the rest): maps describe q, k, v and o; keys at or past the length have
// weight 0, whatever they hold; keys masked by the window get weight 0; P is rounded to the element
// type before P V, l sums the unrounded weights, O is rounded once; a row without a score above
// -inf gives O = +0 and LSE = -inf. No atomics on results: they depend on the arguments alone.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_wide/epilogue.cuh"
#include "kernels/attention/sm90_wide/math.cuh"
#include "kernels/attention/sm90_wide/producer.cuh"
#include "kernels/core/numeric.cuh"
#include "kernels/core/warpgroup_scores.cuh"
#include "kernels/ptx/opaque.h"
#include "kernels/ptx/setmaxnreg.h"
#include "kernels/ptx/wgmma.h"

namespace qkv::kernels {

// Warpgroup 0.
//
// Invariant after each block of keys, per row: m = max s; the quad's l add up to sum P, P =
// 2^(factor (s - m) + carry); rO = sum P V, the last piece's product of which is under way.
template <Type kType, bool kSoftcap>
struct Sm90WideFirst : Sm90WideMath<kType, 0> {
  using Math = Sm90WideMath<kType, 0>;
  using T = typename Math::T;
  using Shared = typename Math::Shared;
  using Math::args, Math::shared, Math::ring, Math::turn, Math::rO;

  const float factor;   // log2(e), times what the scores lack: the scale, or twice the softcap
  const float inverse;  // scale / softcap
  float rS[kSm90WideTileKv / 2];  // as core/warpgroup_scores.cuh has it
  OnlineSoftmax<softmax_carry(kType)> state[2];

  __device__ Sm90WideFirst(const Sm90WideArgs& args, Shared& shared)
      : Math(args, shared),
        factor((kSoftcap ? 2 * args.forward.softcap : args.forward.scale) * kLog2E),
        inverse(kSoftcap ? args.forward.scale / args.forward.softcap : 0) {}

  // rS = Q K^T, panel by panel. In the tile's second block and later ones it is issued behind P V
  // of the block before, whose last piece of V is released here. When one panel is left of it,
  // warpgroup 1 is sent ahead: its P V has the tensor cores during the softmax.
  template <bool kFirst>
  __device__ void multiply_qk() {
    constexpr int kQPanel = kSm90WideRows * kSm90WidePanelBytes / 16;
    const uint64_t q = Math::k_major(shared.q);
#pragma unroll
    for (int panel = 0; panel < kSm90WidePanels; ++panel) {
      if (panel > 0 && panel >= args.panels_qk) break;
      Math::wait_piece();
      const uint64_t k = Math::k_major(shared.ring[ring.stage()]);
      ptx::wgmma_fence();
#pragma unroll
      for (int d = 0; d < kSm90WidePanel / 16; ++d) {
        if (panel == 0 && d == 0)
          ptx::wgmma<T, 128, false>(rS, q, k);
        else
          ptx::wgmma<T, 128, true>(rS, q + panel * kQPanel + d * 2, k + d * 2);
      }
      ptx::wgmma_commit_group();
      ptx::wgmma_wait_all_but_one();
      if (panel > 0 || !kFirst) Math::release_before();
      ++ring.number;
    }
    if constexpr (!kFirst) send_ahead();
    ptx::wgmma_wait_group<0>(rS);
    if constexpr (!kFirst) ptx::wgmma_wait_group<0>(rO);
    Math::release_before();
    // Between a block's K and its V comes warpgroup 1's V of the block before.
    if (!kFirst && args.panels_v > kSm90WideHalf) ring.number += kSm90WidePiecesV;
  }

  // Warpgroup 1 may use the latest P.
  __device__ void send_ahead() { Math::arrive(shared.go[turn.buffer() ^ 1]); }

  // Computed again for each block that needs it, instead of held in registers across the loop.
  __device__ void mask_block(int block) {
    const int row = ptx::opaque(shared.work.tile.row + Math::warp_row()) + Math::lane() / 4;
    const KeyRange visible[2] = {shared.work.mask.keys(args.schedule.query(row)),
                                 shared.work.mask.keys(args.schedule.query(row + 8))};
    mask_scores<kSm90WideTileKv>(rS, visible, block * kSm90WideTileKv + Math::lane() % 4 * 2);
  }
  __device__ bool needs_mask(int block) const {
    const KeyRange unmasked = shared.work.unmasked;
    return block * kSm90WideTileKv < unmasked.begin ||
           unmasked.end - block * kSm90WideTileKv < kSm90WideTileKv;
  }

  // Waits until warpgroup 1 has used the buffer's P of two blocks before.
  __device__ void wait_p_empty() {
    ptx::mbarrier_wait(shared_address(&shared.p_empty[turn.buffer()]), turn.parity() ^ 1);
  }
  __device__ void tell(const float (&of_row)[2]) {
    if (Math::lane() % 4 == 0)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        shared.factor[turn.buffer()][Math::warp_row() + half * 8 + Math::lane() / 4] = of_row[half];
  }

  // P rounded to T, for both warpgroups: a lane's accumulators are four 8 x 8 matrices for 16 keys.
  __device__ void leave_p() {
    const uint32_t row =
        shared_address(shared.p[turn.buffer()][0][Math::warp_row() + Math::lane() % 16]);
#pragma unroll
    for (int j = 0; j < kSm90WideTileKv / 16; ++j) {
      uint32_t p[4];
#pragma unroll
      for (int x = 0; x < 4; ++x) p[x] = pack<T>(rS[j * 8 + 2 * x], rS[j * 8 + 2 * x + 1]);
      const int chunk = j % 4 * 2 + Math::lane() / 16;  // of 16 bytes; swizzled by the row
      ptx::stmatrix_x4(row + j / 4 * static_cast<uint32_t>(sizeof shared.p[0][0]) +
                           static_cast<uint32_t>((chunk ^ Math::lane() % 8) * 16),
                       p);
    }
    ptx::fence_proxy_async();
    Math::sync_warpgroup();
  }

  // P of a block whose S is there.
  __device__ void weigh(int block) {
    const bool masked = needs_mask(block);
    if constexpr (kSoftcap) {
      if (masked) mask_block(block);
      softcap_scores(rS, inverse);
    }
    if (masked) mask_block(block);
    float rescale[2];
    const bool coarse = raise_max<kSm90WideTileKv, false>(rS, state, rescale, factor).coarse;
    wait_p_empty();
    tell(rescale);
    if (coarse)
      weigh_scores<0, kSm90WideTileKv, true>(rS, state, factor);
    else
      weigh_scores<0, kSm90WideTileKv, false>(rS, state, factor);
    Math::rescale_o(rescale);
    leave_p();
  }

  // From the last block to the first. ptxas wants no product under way from one turn of the loop to
  // the next (C7514).
  __device__ void walk(int first, int last) {
    ptx::mbarrier_wait(shared_address(&shared.q_full), 0);
    multiply_qk<true>();
#pragma unroll 1
    for (int block = last; block >= first; block = ptx::opaque(block - 1)) {
      weigh(block);
      Math::multiply_pv(block);
      ++turn.number;
      if (block > first) {
        multiply_qk<false>();
        continue;
      }
      send_ahead();
      ptx::wgmma_wait_group<0>(rO);
      Math::release_before();
    }
  }

  __device__ void run() {
    const int first = shared.work.first, last = shared.work.last;
    if (first <= last) walk(first, last);
    float of_row[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      state[half].l = quad_sum(state[half].l);
      of_row[half] = state[half].empty() ? -1 : 1 / state[half].l;
    }
    wait_p_empty();
    tell(of_row);
    ++turn.number;
    send_ahead();
    if constexpr (kSoftcap)
#pragma unroll
      for (auto& of_half : state) of_half.m = softcapped_score(of_half.m, args.forward.softcap);
    const float of_m = kSoftcap ? kLog2E : factor;
    const Sm90WideEpilogue<T> epilogue{args, shared, 0, Math::panels(), rO, of_row};
    epilogue.write([&](int half) { return state[half].lse(of_m); },
                   [&](int half) { return state[half].split_lse(of_m); });
  }
};

// Warpgroup 1: the other half of O, a block behind.
template <Type kType>
struct Sm90WideSecond : Sm90WideMath<kType, 1> {
  using Math = Sm90WideMath<kType, 1>;
  using T = typename Math::T;
  using Shared = typename Math::Shared;
  using Math::args, Math::shared, Math::ring, Math::turn, Math::rO;

  __device__ Sm90WideSecond(const Sm90WideArgs& args, Shared& shared) : Math(args, shared) {}

  // What warpgroup 0 tells of the lane's rows, when it says so.
  __device__ void listen(float (&of_row)[2]) {
    ptx::mbarrier_wait(shared_address(&shared.go[turn.buffer()]), turn.parity());
#pragma unroll
    for (int half = 0; half < 2; ++half)
      of_row[half] = shared.factor[turn.buffer()][Math::warp_row() + half * 8 + Math::lane() / 4];
  }

  __device__ void step(int block) {
    float of_row[2];
    listen(of_row);
    if (Math::panels() > 0) {
      Math::rescale_o(of_row);
      Math::multiply_pv(block);
      ptx::wgmma_wait_group<0>(rO);
      Math::release_before();
    }
    Math::arrive(shared.p_empty[turn.buffer()]);
    ++turn.number;
  }

  __device__ void run() {
    const int first = shared.work.first, last = shared.work.last;
    // V of a block stands behind K of the next one and warpgroup 0's V of its own.
    ring.number = static_cast<uint32_t>(args.panels_qk) + kSm90WidePiecesV;
#pragma unroll 1
    for (int block = last; block >= first; --block) {
      if (block > first) ring.number += static_cast<uint32_t>(args.panels_qk);
      step(block);
      ring.number += kSm90WidePiecesV;
    }
    float inverse[2];
    listen(inverse);
    const Sm90WideEpilogue<T> epilogue{args, shared, 1, Math::panels(), rO, inverse};
    const auto untold = [](int) { return 0.0f; };
    epilogue.write(untold, [](int) { return SplitLse{}; });
  }
};

template <Type kType, bool kSoftcap>
static __global__ void __launch_bounds__(kSm90WideThreads, 1)
    sm90_wide(const __grid_constant__ Sm90WideArgs args) {
  using Shared = Sm90WideShared<Element<kType>>;
  static_assert(sizeof(Shared) <= kSm90WideSmemBytes);
  static_assert(kSm90WideRegisters0 + kSm90WideRegisters1 + kSm90WideProducerRegisters <=
                kSm90WideLaunchRegisters * 3);
  extern __shared__ __align__(1024) unsigned char smem[];
  Shared& shared = *reinterpret_cast<Shared*>(smem);

  const int warpgroup =
      __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kSm90WideWarpgroupThreads, 0);
  const int rank = static_cast<int>(ptx::cluster_ctarank());
  if (threadIdx.x == 0) {
    for (const CUtensorMap* map : {&args.q, &args.k, &args.v, &args.o})
      ptx::prefetch_tensormap(map);
    ptx::mbarrier_init(shared_address(&shared.q_full), 1);
    for (int stage = 0; stage < kSm90WideStages; ++stage) {
      for (auto& full : shared.full) ptx::mbarrier_init(shared_address(&full[stage]), 1);
      ptx::mbarrier_init(shared_address(&shared.empty[stage]),
                         static_cast<uint32_t>(4 * args.cluster));
    }
    for (uint64_t& go : shared.go) ptx::mbarrier_init(shared_address(&go), 4);
    for (uint64_t& empty : shared.p_empty) ptx::mbarrier_init(shared_address(&empty), 4);
    ptx::fence_mbarrier_init();
    shared.work = describe_work(args, blockIdx.x / static_cast<uint32_t>(args.cluster), rank);
  }
  // Nobody arrives at barriers of a block that has not made them, nor exits while others of the
  // cluster may write to its memory.
  __syncthreads();
  if (args.cluster > 1) {
    ptx::barrier_cluster_arrive();
    ptx::barrier_cluster_wait();
  }

  if (warpgroup >= 2) {
    ptx::setmaxnreg_dec<kSm90WideProducerRegisters>();
    if (threadIdx.x / 32 == 8) Sm90WideProducer<Element<kType>>{args, shared, rank, {}}.run();
  } else if (warpgroup == 0) {
    ptx::setmaxnreg_inc<kSm90WideRegisters0>();
    Sm90WideFirst<kType, kSoftcap>(args, shared).run();
  } else {
    ptx::setmaxnreg_inc<kSm90WideRegisters1>();
    Sm90WideSecond<kType>(args, shared).run();
  }

  if (args.cluster > 1) {
    __syncwarp();
    ptx::barrier_cluster_arrive();
    ptx::barrier_cluster_wait();
  }
}

}  // namespace qkv::kernels
