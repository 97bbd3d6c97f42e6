// sm90_forward: O = softmax(S) V and LSE on Hopper, with TMA, mbarriers and wgmma. fp16 and bf16,
// head dims up to kSm90Dim.
//
// A thread block stays on its multiprocessor and computes one tile of kSm90TileQ query rows after
// the other (persistent kernel). A producer warp copies Q, K and V by TMA; two math warpgroups own
// kSm90Rows rows each, from scores to output. A warpgroup walks over the blocks of keys, the last
// one first, and issues Q K^T of a block together with P V of the block before, so that the tensor
// cores work on P V during the block's softmax. The warpgroups take turns in issuing, so that one's
// softmax overlaps the other's products (ping-pong). Q has two buffers and O one of its own: the
// next tile begins while this one is stored. kernels/README.md draws it.
//
// Contract (qkv.h has the rest): maps describe q, k, v and o; keys at or past the length have
// weight 0, whatever they hold; keys masked by the window get weight 0; P is rounded to the element
// type before P V, l sums the unrounded weights, O is rounded once; a row without a score above
// -inf gives O = +0 and LSE = -inf. No atomics on results: they depend on the arguments alone.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_forward/epilogue.cuh"
#include "kernels/attention/sm90_forward/producer.cuh"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/score_fragment.cuh"
#include "kernels/ptx/barrier.h"
#include "kernels/ptx/opaque.h"
#include "kernels/ptx/setmaxnreg.h"
#include "kernels/ptx/sync_warp.h"
#include "kernels/ptx/wgmma.h"

namespace qkv::kernels {

template <Type kType, bool kSoftcap>
struct Sm90Forward {
  using T = Element<kType>;
  using Shared = Sm90Shared<T>;
  using Softmax = OnlineSoftmax<softmax_carry(kType)>;
  using Epilogue = Sm90Epilogue<T, Softmax>;

  // A warpgroup's S and O, as wgmma's accumulators, and P, as its A operand in registers. Of its
  // warp's 16 rows a lane has rows lane / 4 and + 8 ("halves" 0 and 1), and of every 8 columns
  // 2 (lane % 4) and + 1: element n / 2 + 2 half + x is column n + 2 (lane % 4) + x, n = 0, 8, ...
  using Scores = float[kSm90TileKv / 2];
  using Output = float[kSm90Dim / 2];
  using PackedP = uint32_t[kSm90TileKv / 16][4];
  static_assert(kSm90Rows == 64 && kSm90TileKv == 128 && kSm90Dim == 128, "wgmma m64n128k16");
  static_assert(kSm90MathWarpgroups == 2, "they take turns");
  static constexpr int kHalfBlock = kSm90TileKv / 2;

  // rS = Q K^T for the first kKeys keys of the block, asynchronously. Descriptors count in units of
  // 16 bytes.
  template <int kKeys>
  static __device__ void multiply_qk(Scores& rS, uint64_t q, uint64_t k) {
    constexpr int kSteps = kSm90Panel / 16;                      // of 16 dims in a panel
    constexpr int kStep = kSm90PanelBytes / kSteps / 16;         // to the next 16 dims
    constexpr int kQPanel = kSm90Rows * kSm90PanelBytes / 16;    // to the next panel of Q
    constexpr int kKPanel = kSm90TileKv * kSm90PanelBytes / 16;  // of K
    ptx::wgmma_fence();
#pragma unroll
    for (int d = 0; d < kSm90Dim / 16; ++d) {
      const uint64_t q_d = q + d / kSteps * kQPanel + d % kSteps * kStep;
      const uint64_t k_d = k + d / kSteps * kKPanel + d % kSteps * kStep;
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
  static __device__ void multiply_pv(Output& rO, const PackedP& rP, uint64_t v, int add) {
    constexpr int kStep = 16 * kSm90PanelBytes / 16;  // to the next 16 keys
    ptx::wgmma_fence();
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j)
      ptx::wgmma_m64n128k16<T>(rO, rP[j], v + j * kStep, j == 0 ? add : 1);
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

  // The blocks of keys that a warpgroup's rows see; none if last < first.
  struct Blocks {
    int first, last;
    bool half;  // of the last one only the first half, as on warpgroup 0's causal diagonal
  };
  static __device__ Blocks blocks_of(const Sm90Work& work, int warpgroup) {
    const KeyRange keys = work.visible[warpgroup];
    if (keys.begin >= keys.end) return {work.first, work.first - 1, false};
    const int last = (keys.end - 1) / kSm90TileKv;
    return {keys.begin / kSm90TileKv, last, keys.end - last * kSm90TileKv <= kHalfBlock};
  }

  static __device__ void compute(const Sm90ForwardArgs& args, Shared& shared, int warpgroup) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const float softcap = args.forward.softcap;
    const float factor = (kSoftcap ? softcap : args.forward.scale) * kLog2E;
    const float inverse = kSoftcap ? args.forward.scale / softcap : 0;
    constexpr uint32_t kEightRows = 8 * kSm90PanelBytes;  // the swizzle's period
    constexpr uint64_t kKMajor = ptx::wgmma_descriptor(0, kEightRows);
    constexpr uint64_t kMnMajor = ptx::wgmma_descriptor(sizeof shared.v[0][0], kEightRows);
    Sm90Ring q, k, v;

    // The math warpgroups issue their products in turn, once for each block of keys: a warpgroup
    // waits at its own named barrier until the other one has arrived there.
    constexpr int kTurn = 1;  // the barrier of warpgroup 0; 2: of warpgroup 1
    const auto take_turn = [&] { ptx::barrier_sync(kTurn + warpgroup, kSm90MathThreads); };
    const auto pass_turn = [&] { ptx::barrier_arrive(kTurn + 1 - warpgroup, kSm90MathThreads); };
    const auto wait = [&](uint64_t& full, const Sm90Ring& ring) {
      ptx::mbarrier_wait(shared_address(&full), ring.parity());
    };
    const auto release = [&](uint64_t& empty, Sm90Ring& ring) {
      __syncwarp();
      if (lane == 0) ptx::mbarrier_arrive(shared_address(&empty));
      ring.next();
    };
    const auto wait_q = [&] { wait(shared.q_full[q.stage()][warpgroup], q); };
    const auto wait_k = [&] { wait(shared.k_full[k.stage()], k); };
    const auto wait_v = [&] { wait(shared.v_full[v.stage()], v); };
    const auto release_k = [&] { release(shared.k_empty[k.stage()], k); };
    const auto release_v = [&] { release(shared.v_empty[v.stage()], v); };
    const auto skip_block = [&] {  // which only the other warpgroup sees
      take_turn();
      pass_turn();
      wait_k();
      release_k();
      wait_v();
      release_v();
    };
    const auto sQ = [&] {
      return ptx::wgmma_at(kKMajor, shared_address(shared.q[q.stage()][warpgroup]));
    };
    const auto sK = [&] { return ptx::wgmma_at(kKMajor, shared_address(shared.k[k.stage()])); };
    const auto sV = [&] { return ptx::wgmma_at(kMnMajor, shared_address(shared.v[v.stage()])); };

    // Invariant after each block of keys, per row: m = max s; the quad's l add up to sum P, P =
    // 2^(factor (s - m) + carry); rO = sum P V of the blocks before this one, whose own P is rP.
    Output rO;
    Scores rS;
    PackedP rP;
    bool has_s = false;  // rS is S of the tile's last block, computed during the tile before

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
      const Sm90Work& work = shared.work[q.stage()];  // valid until q's stage is released
      if (work.end) break;
      const WorkTile at = work.tile;
      const int first_of_tile = work.first;
      const KeyRange unmasked = work.unmasked[warpgroup];
      const auto [first, last, last_half] = blocks_of(work, warpgroup);
      Softmax softmax[2];
      float rescale[2];
      int add = 0;  // to rO; 0: the first P V overwrites it

      // Computed again for each block that needs it, instead of held in registers across the loop.
      const auto mask_block = [&]<int kKeys>(int block) {
        const int row =
            ptx::opaque(at.row + static_cast<int>(threadIdx.x) / 32 * kSm90WarpRows) + lane / 4;
        const KeyRange visible[2] = {work.mask.keys(args.schedule.query(row)),
                                     work.mask.keys(args.schedule.query(row + 8))};
        apply_mask<kKeys>(rS, visible, block * kSm90TileKv + lane % 4 * 2);
      };
      const auto needs_mask = [&](int block) {
        return block * kSm90TileKv < unmasked.begin ||
               unmasked.end - block * kSm90TileKv < kSm90TileKv;
      };
      // Of the last block, with which the walk begins.
      const auto first_softmax = [&]<int kKeys>(int block) {
        if constexpr (kSoftcap) apply_softcap(rS, inverse);
        if (needs_mask(block)) mask_block.template operator()<kKeys>(block);
        if (raise_max<kKeys>(rS, softmax, rescale, factor))
          exponentials<0, kKeys, true>(rS, softmax, factor);
        else
          exponentials<0, kKeys, false>(rS, softmax, factor);
        pack_p<kKeys>(rP, rS);
      };
      // Q K^T and softmax of `block`, with P V of the block after it, which had kKeys keys.
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
        if constexpr (kMasked) mask_block.template operator()<kSm90TileKv>(block);
        const bool coarse = raise_max<kSm90TileKv>(rS, softmax, rescale, factor);
        // P V runs during the maximum and the first exponentials; then V's buffer is passed on, and
        // the other exponentials run while the next block is on its way. The barrier keeps ptxas
        // from moving the wait for P V up. With a mask or softcap registers do not suffice for it.
        constexpr int kBefore = kMasked || kSoftcap ? kSm90TileKv : kSm90KeysBeforePv;
        if (coarse)
          exponentials<0, kSm90TileKv, true>(rS, softmax, factor);
        else
          exponentials<0, kBefore, false>(rS, softmax, factor);
        if constexpr (!kMasked && !kSoftcap) ptx::sync_warp_after(softmax[0].l + softmax[1].l);
        ptx::wgmma_wait_group<0>(rO);
        release_v();
        if (!coarse) exponentials<kBefore, kSm90TileKv, false>(rS, softmax, factor);
        pack_p<kSm90TileKv>(rP, rS);
#pragma unroll
        for (int x = 0; x < kSm90Dim / 2; ++x) rO[x] *= rescale[x / 2 % 2];
      };

      if (!has_s)
#pragma unroll 1
        for (int block = work.last; block > last; --block) skip_block();
      bool pv_pending = false;
      if (first <= last) {
        int block = last;
        bool half = last_half;
        if (half) {
          if (!has_s) {
            issue_qk.template operator()<kHalfBlock>();
            finish_qk();
          }
          first_softmax.template operator()<kHalfBlock>(block);
        } else {
          if (!has_s) {
            issue_qk.template operator()<kSm90TileKv>();
            finish_qk();
          }
          first_softmax.template operator()<kSm90TileKv>(block);
        }
        if (half && block > first) {
          step.template operator()<kHalfBlock, true>(--block);
          half = false;
        }
        while (block > first) {
          if (needs_mask(--block))
            step.template operator()<kSm90TileKv, true>(block);
          else
            step.template operator()<kSm90TileKv, false>(block);
        }
        wait_v();
        if (half)
          multiply_pv<kHalfBlock>(rO, rP, sV(), add);
        else
          multiply_pv<kSm90TileKv>(rO, rP, sV(), add);
        pv_pending = true;
      }
      release(shared.q_empty[q.stage()], q);
      if (pv_pending && first > first_of_tile) {
        ptx::wgmma_wait_group<0>(rO);
        release_v();
        pv_pending = false;
        skip_block();  // at most one: the warpgroups' first keys are less than a block apart
      }

      // The epilogue, with Q K^T of the next tile's last block beside it.
      const auto epilogue_with_next_qk = [&]<int kKeys>() {
        issue_qk.template operator()<kKeys>();
        ptx::wgmma_wait_group<1>(rO);
        release_v();
        Epilogue::write(args, shared, at, rO, softmax, factor);
        finish_qk();
      };
      wait_q();
      const Sm90Work& next = shared.work[q.stage()];
      const Blocks blocks = blocks_of(next, warpgroup);
      // With softcap registers do not suffice.
      has_s = !kSoftcap && pv_pending && blocks.first <= blocks.last && blocks.last == next.last;
      if (has_s && blocks.half) {
        epilogue_with_next_qk.template operator()<kHalfBlock>();
      } else if (has_s) {
        epilogue_with_next_qk.template operator()<kSm90TileKv>();
      } else {
        ptx::wgmma_wait_group<0>(rO);
        if (pv_pending) release_v();
        Epilogue::write(args, shared, at, rO, softmax, factor);
      }
    }
    // Warpgroup 1 has arrived once more than warpgroup 0 has waited: no barrier is left half full.
    if (warpgroup == 0) take_turn();
    if (lane == 0) ptx::cp_async_bulk_wait_group_read();
  }
};

template <Type kType, bool kSoftcap>
static __global__ void __launch_bounds__(kSm90Threads, 1)
    sm90_forward(const __grid_constant__ Sm90ForwardArgs args) {
  using Kernel = Sm90Forward<kType, kSoftcap>;
  using Shared = typename Kernel::Shared;
  static_assert(sizeof(Shared) <= kSm90SmemBytes);
  static_assert(kSm90MathWarpgroups * kSm90MathRegisters + kSm90ProducerRegisters <=
                kSm90LaunchRegisters * (kSm90MathWarpgroups + 1));
  extern __shared__ __align__(1024) unsigned char smem[];
  Shared& shared = *reinterpret_cast<Shared*>(smem);

  const int warpgroup =
      __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kSm90WarpgroupThreads, 0);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kSm90Stages; ++stage) {
      for (uint64_t& full : shared.q_full[stage]) ptx::mbarrier_init(shared_address(&full), 1);
      ptx::mbarrier_init(shared_address(&shared.q_empty[stage]), kSm90MathWarps);
      ptx::mbarrier_init(shared_address(&shared.k_full[stage]), 1);
      ptx::mbarrier_init(shared_address(&shared.k_empty[stage]), kSm90MathWarps);
      ptx::mbarrier_init(shared_address(&shared.v_full[stage]), 1);
      ptx::mbarrier_init(shared_address(&shared.v_empty[stage]), kSm90MathWarps);
    }
    ptx::mbarrier_init(shared_address(&shared.v_tail), 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  if (warpgroup == kSm90MathWarpgroups) {
    ptx::setmaxnreg_dec<kSm90ProducerRegisters>();
    if (threadIdx.x / 32 == kSm90MathWarps) Sm90Producer<Element<kType>>::produce(args, shared);
  } else {
    ptx::setmaxnreg_inc<kSm90MathRegisters>();
    Kernel::compute(args, shared, warpgroup);
  }
}

}  // namespace qkv::kernels
