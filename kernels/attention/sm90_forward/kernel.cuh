// sm90_forward: O = softmax(S) V and LSE on Hopper, with TMA, mbarriers and wgmma. fp16 and bf16,
// head dims up to kSm90Dim.
//
// A block stays on its multiprocessor and computes one tile of kSm90TileQ query rows after the
// other. A producer warp copies Q, K and V by TMA; two math warpgroups have kSm90Rows rows each,
// from scores to output. A warpgroup walks over the blocks of keys, the last one first, and issues
// Q K^T of a block together with P V of the one before: the tensor cores work on P V during the
// block's softmax. The warpgroups take turns in issuing, so that one's softmax is beside the
// other's products. Two buffers of Q and one of O of its own: the next tile begins while this one
// is stored.
//
// Contract (qkv.h has the rest): maps describe q, k, v and o; keys at or past the length have
// weight 0, whatever they hold; keys hidden by the window get weight 0; P is rounded to the element
// type before P V, l sums the unrounded weights, O is rounded once; a row without a score above
// -inf gives O = +0 and LSE = -inf. No atomics on results: they depend on the arguments alone.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_forward/epilogue.cuh"
#include "kernels/attention/sm90_forward/producer.cuh"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/ptx/barrier.h"
#include "kernels/ptx/setmaxnreg.h"
#include "kernels/ptx/sync_warp.h"
#include "kernels/ptx/wgmma.h"

namespace qkv::kernels {

template <class T, bool kSoftcap>
struct Sm90Forward {
  using Shared = Sm90Shared<T>;

  // A lane's place in S and O: rows lane / 4 and + 8 of its warp's 16, and of every 8
  // columns 2 (lane % 4) and + 1.

  // rS = Q K^T for the first kKeys keys of the block, asynchronously.
  template <int kKeys>
  static __device__ void multiply_qk(float (&rS)[64], uint64_t q, uint64_t k) {
    constexpr int kPanelSteps = kSm90Panel / 16, kStep = 32 / 16;  // of descriptors, in 16 bytes
    ptx::wgmma_fence();
#pragma unroll
    for (int d = 0; d < kSm90Dim / 16; ++d) {
      const uint64_t q_d = q + d / kPanelSteps * (kSm90Rows * 128 / 16) + d % kPanelSteps * kStep;
      const uint64_t k_d = k + d / kPanelSteps * (kSm90TileKv * 128 / 16) + d % kPanelSteps * kStep;
      if constexpr (kKeys == kSm90TileKv) {
        if (d == 0)
          ptx::wgmma_m64n128k16<T, false>(rS, q_d, k_d);
        else
          ptx::wgmma_m64n128k16<T, true>(rS, q_d, k_d);
      } else {
        if (d == 0)
          ptx::wgmma_m64n64k16<T, false>(rS, q_d, k_d);
        else
          ptx::wgmma_m64n64k16<T, true>(rS, q_d, k_d);
      }
    }
    ptx::wgmma_commit_group();
  }

  // rO = P V, or += if `add`, for the first kKeys keys of the block, asynchronously.
  template <int kKeys>
  static __device__ void multiply_pv(float (&rO)[64], const uint32_t (&rP)[8][4], uint64_t v,
                                     int add) {
    ptx::wgmma_fence();
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j)
      ptx::wgmma_m64n128k16<T>(rO, rP[j], v + j * (16 * 128 / 16), j == 0 ? add : 1);
    ptx::wgmma_commit_group();
  }

  // rS = tanh(rS scale / softcap), whose factor is softcap log2 e.
  static __device__ void apply_softcap(float (&rS)[64], float inverse) {
#pragma unroll
    for (float& s : rS) s = tanhf(s * inverse);
  }

  // rS = -inf where hidden; `key` is the lane's first one.
  template <int kKeys>
  static __device__ void hide(float (&rS)[64], const KeyRange (&visible)[2], int key) {
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

  // rS = 2^(factor rS - m) with m and l brought up to date; `shrink` is for what was summed before.
  template <int kKeys>
  static __device__ void weigh(float (&rS)[64], OnlineSoftmax (&softmax)[2], float (&shrink)[2],
                               float factor) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float s_max[2] = {rS[half * 2], rS[half * 2 + 1]};  // two chains, half as long
#pragma unroll
      for (int n = 4; n < kKeys / 2; n += 4)
#pragma unroll
        for (int x = 0; x < 2; ++x) s_max[x] = fmaxf(s_max[x], rS[n + half * 2 + x]);
      float s = fmaxf(s_max[0], s_max[1]);
      s = fmaxf(s, __shfl_xor_sync(0xffffffffu, s, 1));
      s = fmaxf(s, __shfl_xor_sync(0xffffffffu, s, 2));
      shrink[half] = softmax[half].raise(s * factor);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int n = 0; n < kKeys / 2; n += 4)
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          float& s = rS[n + half * 2 + x];
          s = softmax[half].weight(s, factor);
          softmax[half].l += s;
        }
  }

  // P, as wgmma wants it from registers: what S has left in a lane.
  template <int kKeys>
  static __device__ void round(uint32_t (&rP)[8][4], const float (&rS)[64]) {
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) rP[i / 4][i % 4] = pack<T>(rS[2 * i], rS[2 * i + 1]);
  }

  // What of a tile's blocks of keys a warpgroup's rows see; none if last < first.
  struct Blocks {
    int first, last;
    bool half;  // of the last one the first half is enough: the diagonal of its rows
  };
  static __device__ Blocks blocks_of(const Sm90Work& work, int warpgroup) {
    const KeyRange any = work.any[warpgroup];
    if (any.begin >= any.end) return {work.first, work.first - 1, false};
    const int last = (any.end - 1) / kSm90TileKv;
    return {any.begin / kSm90TileKv, last, any.end - last * kSm90TileKv <= kSm90TileKv / 2};
  }

  static __device__ void compute(const Sm90ForwardArgs& args, Shared& shared, int warpgroup) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const float softcap = args.forward.softcap;
    const float factor = (kSoftcap ? softcap : args.forward.scale) * kLog2E;
    const float inverse = kSoftcap ? args.forward.scale / softcap : 0;
    constexpr uint64_t kKMajor = ptx::wgmma_descriptor(0, 8 * 128);
    constexpr uint64_t kMnMajor = ptx::wgmma_descriptor(sizeof shared.v[0][0], 8 * 128);
    Sm90Ring q, k, v;

    // The math warpgroups issue their products in turn, once for each block of keys.
    const auto take_turn = [&] { ptx::barrier_sync(1 + warpgroup, 256); };
    const auto pass_turn = [&] { ptx::barrier_arrive(2 - warpgroup, 256); };
    const auto wait = [&](uint64_t& full, const Sm90Ring& ring) {
      ptx::mbarrier_wait(shared_address(&full), ring.parity());
    };
    const auto release = [&](uint64_t& empty, Sm90Ring& ring) {
      __syncwarp();
      if (lane == 0) ptx::mbarrier_arrive(shared_address(&empty));
      ring.next();
    };
    const auto wait_q = [&] { wait(shared.q_full[q.place()][warpgroup], q); };
    const auto wait_k = [&] { wait(shared.k_full[k.place()], k); };
    const auto wait_v = [&] { wait(shared.v_full[v.place()], v); };
    const auto release_k = [&] { release(shared.k_empty[k.place()], k); };
    const auto release_v = [&] { release(shared.v_empty[v.place()], v); };
    const auto skip = [&] {  // a block that only the other warpgroup sees
      take_turn();
      pass_turn();
      wait_k();
      release_k();
      wait_v();
      release_v();
    };
    const auto sQ = [&] {
      return ptx::wgmma_at(kKMajor, shared_address(shared.q[q.place()][warpgroup]));
    };
    const auto sK = [&] { return ptx::wgmma_at(kKMajor, shared_address(shared.k[k.place()])); };
    const auto sV = [&] { return ptx::wgmma_at(kMnMajor, shared_address(shared.v[v.place()])); };

    // Invariant after each block of keys, per row: m = max s; the quad's l add up to sum 2^(s - m);
    // rO = sum 2^(s - m) V of the blocks before this one, whose 2^(s - m) is rP.
    float rO[64], rS[64];
    uint32_t rP[8][4];
    bool ahead = false;  // rS is S of the tile's last block

    const auto issue_qk = [&]<int kKeys>() {
      take_turn();
      wait_k();
      multiply_qk<kKeys>(rS, sQ(), sK());
      pass_turn();
    };
    const auto finish_qk = [&] {
      ptx::wgmma_wait_group<0>(rS);
      release_k();
    };

    if (warpgroup == 1) pass_turn();  // the first turn is warpgroup 0's
    for (wait_q();;) {
      const Sm90Work& work = shared.work[q.place()];  // until q's place is released
      if (work.end) break;
      const WorkTile at = work.tile;
      const int first_of_any = work.first;
      const KeyRange all = work.all[warpgroup];
      const auto [first, last, last_half] = blocks_of(work, warpgroup);
      const int row = at.row + static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
      const KeyRange visible[2] = {work.mask.keys(args.schedule.query(row)),
                                   work.mask.keys(args.schedule.query(row + 8))};
      OnlineSoftmax softmax[2];
      float shrink[2];
      int add = 0;  // rO has something

      const auto masked = [&](int block) {
        return block * kSm90TileKv < all.begin || all.end - block * kSm90TileKv < kSm90TileKv;
      };
      const auto begin = [&]<int kKeys>(int block) {
        if constexpr (kSoftcap) apply_softcap(rS, inverse);
        if (masked(block)) hide<kKeys>(rS, visible, block * kSm90TileKv + lane % 4 * 2);
        weigh<kKeys>(rS, softmax, shrink, factor);
        round<kKeys>(rP, rS);
      };
      // Any block but the last, with P V of the one after it, which had kKeys keys.
      const auto step = [&]<int kKeys, bool kMasked>(int block) {
        take_turn();
        wait_k();
        multiply_qk<kSm90TileKv>(rS, sQ(), sK());
        wait_v();
        multiply_pv<kKeys>(rO, rP, sV(), add);
        add = 1;
        pass_turn();
        ptx::wgmma_wait_group<1>(rS);
        release_k();
        if constexpr (kSoftcap) apply_softcap(rS, inverse);
        if constexpr (kMasked) hide<kSm90TileKv>(rS, visible, block * kSm90TileKv + lane % 4 * 2);
        weigh<kSm90TileKv>(rS, softmax, shrink, factor);
        // P V goes on until here: ptxas would wait for it before the exponentials. With masks or a
        // softcap it would run out of registers.
        if constexpr (!kMasked && !kSoftcap) ptx::sync_warp_after(softmax[0].l + softmax[1].l);
        ptx::wgmma_wait_group<0>(rO);
        release_v();
        round<kSm90TileKv>(rP, rS);
#pragma unroll
        for (int x = 0; x < 64; ++x) rO[x] *= shrink[x / 2 % 2];
      };

      const bool some = first <= last;
      if (!ahead)
#pragma unroll 1
        for (int block = work.last; block > last; --block) skip();
      bool pending = false;  // P V
      if (some) {
        int block = last;
        bool half = last_half;
        if (half) {
          if (!ahead) {
            issue_qk.template operator()<kSm90TileKv / 2>();
            finish_qk();
          }
          begin.template operator()<kSm90TileKv / 2>(block);
        } else {
          if (!ahead) {
            issue_qk.template operator()<kSm90TileKv>();
            finish_qk();
          }
          begin.template operator()<kSm90TileKv>(block);
        }
        if (half && block > first) {
          step.template operator()<kSm90TileKv / 2, true>(--block);
          half = false;
        }
        while (block > first) {
          if (masked(--block))
            step.template operator()<kSm90TileKv, true>(block);
          else
            step.template operator()<kSm90TileKv, false>(block);
        }
        wait_v();
        if (half)
          multiply_pv<kSm90TileKv / 2>(rO, rP, sV(), add);
        else
          multiply_pv<kSm90TileKv>(rO, rP, sV(), add);
        pending = true;
      }
      release(shared.q_empty[q.place()], q);
      if (pending && first > first_of_any) {
        ptx::wgmma_wait_group<0>(rO);
        release_v();
        pending = false;
        skip();  // no more: the warpgroups' first keys are less than a block apart
      }

      // S of the next tile's last block is computed while this tile's O is written.
      const auto hand_over = [&]<int kKeys>() {
        issue_qk.template operator()<kKeys>();
        ptx::wgmma_wait_group<1>(rO);
        release_v();
        Sm90Epilogue<T>::write(args, shared, at, rO, softmax);
        finish_qk();
      };
      wait_q();
      const Sm90Work& next = shared.work[q.place()];
      const Blocks blocks = blocks_of(next, warpgroup);
      // With a softcap ptxas would run out of registers for wgmma.
      ahead = !kSoftcap && pending && blocks.first <= blocks.last && blocks.last == next.last;
      if (ahead && blocks.half) {
        hand_over.template operator()<kSm90TileKv / 2>();
      } else if (ahead) {
        hand_over.template operator()<kSm90TileKv>();
      } else {
        ptx::wgmma_wait_group<0>(rO);
        if (pending) release_v();
        Sm90Epilogue<T>::write(args, shared, at, rO, softmax);
      }
    }
    if (warpgroup == 0) take_turn();  // which warpgroup 1 has passed on
    if (lane == 0) ptx::cp_async_bulk_wait_group_read();
  }
};

template <Type kType, bool kSoftcap>
static __global__ void __launch_bounds__(kSm90Threads, 1)
    sm90_forward(const __grid_constant__ Sm90ForwardArgs args) {
  using Kernel = Sm90Forward<Element<kType>, kSoftcap>;
  using Shared = typename Kernel::Shared;
  static_assert(sizeof(Shared) <= kSm90SmemBytes);
  static_assert(kSm90MathWarpgroups * kSm90MathRegisters + kSm90ProducerRegisters <= 504);
  extern __shared__ __align__(1024) unsigned char smem[];
  Shared& shared = *reinterpret_cast<Shared*>(smem);

  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  if (threadIdx.x == 0) {
    for (int place = 0; place < 2; ++place) {
      for (uint64_t& full : shared.q_full[place]) ptx::mbarrier_init(shared_address(&full), 1);
      ptx::mbarrier_init(shared_address(&shared.q_empty[place]), kSm90Warps);
      ptx::mbarrier_init(shared_address(&shared.k_full[place]), 1);
      ptx::mbarrier_init(shared_address(&shared.k_empty[place]), kSm90Warps);
      ptx::mbarrier_init(shared_address(&shared.v_full[place]), 1);
      ptx::mbarrier_init(shared_address(&shared.v_empty[place]), kSm90Warps);
    }
    ptx::mbarrier_init(shared_address(&shared.v_tail), 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  if (warpgroup == kSm90MathWarpgroups) {
    ptx::setmaxnreg_dec<kSm90ProducerRegisters>();
    if (threadIdx.x / 32 == kSm90Warps) Sm90Producer<Element<kType>>::produce(args, shared);
  } else {
    ptx::setmaxnreg_inc<kSm90MathRegisters>();
    Kernel::compute(args, shared, warpgroup);
  }
}

}  // namespace qkv::kernels
