// sm90_forward: O = softmax(S) V and LSE on Hopper, with TMA, mbarriers and wgmma. fp16 and bf16,
// every head dim that a shape in policy.h has room for.
//
// A thread block stays on its multiprocessor and computes one tile of 128 or 192 query rows after
// the other (persistent kernel). A producer warp copies Q, K and V by TMA; two or three math
// warpgroups own kSm90Rows rows each, from scores to output. A warpgroup walks over the blocks of
// keys, the last one first, and issues Q K^T of a block together with P V of the block before, so
// that the tensor cores work on P V during the block's softmax. The warpgroups take turns in
// issuing, so that one's softmax overlaps the other's products (ping-pong). O is left in its tile's
// place of Q. Where Q has two buffers the next tile begins while this one is stored. Of the blocks
// that a mask hides from a whole tile, the producer tells where to go on. Drawn in kernels/README.
//
// Contract (qkv.h has the rest): maps describe q, k, v and o; keys at or past the length have
// weight 0, whatever they hold; keys masked by the window get weight 0; P is rounded to the element
// type before P V, l sums the unrounded weights, O is rounded once; a row without a score above
// -inf gives O = +0 and LSE = -inf. No atomics on results: they depend on the arguments alone.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_forward/block.cuh"
#include "kernels/attention/sm90_forward/epilogue.cuh"
#include "kernels/attention/sm90_forward/producer.cuh"
#include "kernels/attention/sm90_forward/rules.cuh"
#include "kernels/core/numeric.cuh"
#include "kernels/core/warpgroup_scores.cuh"
#include "kernels/ptx/barrier.h"
#include "kernels/ptx/griddepcontrol.h"
#include "kernels/ptx/opaque.h"
#include "kernels/ptx/setmaxnreg.h"
#include "kernels/ptx/sync_warp.h"
#include "kernels/ptx/wgmma.h"

namespace qkv::kernels {

// The state of a math warpgroup, and its way through the tiles. All of it is inlined into run(), so
// that members are registers.
//
// Invariant after each block of keys, per row: m = max s; the quad's l add up to sum P, P =
// 2^(factor (s - m) + carry); rO = sum P V of the blocks before this one, whose own P is rP.
template <Type kType, int kDimQk, int kDimV, Sm90Variant kVariant>
struct Sm90Forward {
  static constexpr bool kSoftcap = kVariant == Sm90Variant::kSoftcap;
  static constexpr bool kRules = kVariant == Sm90Variant::kRules;
  using Block = Sm90Block<kType, kDimQk, kDimV, kRules>;
  using T = typename Block::T;
  using Shared = Sm90Shared<T, kDimQk, kDimV, kRules>;
  using Softmax = typename Block::Softmax;
  using Epilogue = Sm90Epilogue<T, kDimQk, kDimV, kRules, Softmax>;
  static constexpr Sm90Shape kShape = Shared::kShape;
  static constexpr int kTileKv = kShape.tile_kv;
  static_assert((kShape.warpgroups - 1) * kSm90Rows <= kTileKv,
                "their first keys differ by a block");
  using Rules = Sm90Rules<T, kTileKv>;
  // The next tile's first Q K^T beside the epilogue; with 96 dims and a softcap registers fail it.
  static constexpr bool kAhead = kShape.ahead && !(kSoftcap && kDimQk == 96);

  // A softcapped score's exponent is at most 2 kLargestFastSoftcap log2(e).
  static constexpr bool kCoarse = !kSoftcap;
  static_assert(2 * kLargestFastSoftcap * kLog2E < kCoarseExponent);

  // Whether a warpgroup finds out at a tile's end that only others see the first block, instead of
  // with the tile: ptxas runs out of registers (C7511) by the one here, by the other there.
  static constexpr bool kLateRead = kVariant == Sm90Variant::kPlain ? kDimQk == 128 : kSoftcap;

  // The blocks of keys that the warpgroup's rows see of a tile; none if last < first.
  struct Blocks {
    int first, last;
    bool half;     // of the last one only the first half, as on warpgroup 0's causal diagonal
    int before;    // that only other warpgroups see: at most one
    bool to_last;  // and none sees a later one
  };

  const Sm90ForwardArgs& args;
  Shared& shared;
  const int warpgroup;
  const int lane;
  const float factor;   // log2(e), times what the scores lack: the scale, or twice the softcap
  const float inverse;  // scale / softcap

  typename Shared::QRing q;
  typename Shared::KvRing k{0}, v{1};
  bool has_s = false;  // rS is S of the tile's last block, computed during the tile before
  typename Block::Output rO;
  typename Block::Scores rS;
  typename Block::PackedP rP;
  Rules rules;

  // Of the tile; `end`: there is none.
  bool end;
  KeyRange unmasked;
  Blocks blocks;
  int next_block;  // with rules: to be walked behind the one whose K was waited for; -1: none
  Softmax softmax[2];
  bool pv_pending;  // the tile's last P V is under way, V's stage not released

  __device__ Sm90Forward(const Sm90ForwardArgs& args, Shared& shared, int warpgroup)
      : args(args),
        shared(shared),
        warpgroup(warpgroup),
        lane(static_cast<int>(threadIdx.x) % 32),
        factor((kSoftcap                               ? 2 * args.forward.softcap
                : kRules && Rules::scales_scores(args) ? 1
                                                       : args.forward.scale) *
               kLog2E),
        inverse(kSoftcap ? args.forward.scale / args.forward.softcap : 0),
        rules(args) {}

  // The math warpgroups issue their products in turn, once for each block of keys: a warpgroup
  // waits at its own named barrier until the one before it has arrived there.
  static constexpr int kTurn = 1;  // the barrier of warpgroup 0; 2: of warpgroup 1
  static constexpr int kTurnThreads = 2 * kSm90WarpgroupThreads;
  static constexpr int kLast = kShape.warpgroups - 1;
  __device__ void take_turn() { ptx::barrier_sync(kTurn + warpgroup, kTurnThreads); }
  __device__ void pass_turn() {
    const int next = kLast == 1 ? 1 - warpgroup : warpgroup == kLast ? 0 : warpgroup + 1;
    ptx::barrier_arrive(kTurn + next, kTurnThreads);
  }

  __device__ void wait_q() {
    ptx::mbarrier_wait(shared_address(&shared.q_full[q.stage()][warpgroup]), q.parity());
  }
  __device__ void wait_kv(const typename Shared::KvRing& ring) {
    ptx::mbarrier_wait(shared_address(&shared.kv_full[ring.stage()]), ring.parity());
  }
  __device__ void wait_k() {
    wait_kv(k);
    if constexpr (kRules) next_block = shared.next_block[k.stage()];
  }
  __device__ int behind(int block) const { return kRules ? next_block : block - 1; }
  __device__ void release_kv(typename Shared::KvRing& ring) {
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(shared_address(&shared.kv_empty[ring.stage()]));
    ring.next();
  }
  // Of the tile before, when O's store has read it.
  __device__ void release_q_before() {
    __syncwarp();
    if (lane != 0) return;
    ptx::cp_async_bulk_wait_group_read();
    ptx::mbarrier_arrive(shared_address(&shared.q_empty[q.before().stage()]));
  }

  static constexpr uint32_t kEightRows = 8 * kSm90PanelBytes;  // the swizzle's period
  __device__ uint64_t sQ() const {
    return ptx::wgmma_at(ptx::wgmma_descriptor(0, kEightRows),
                         shared_address(shared.q[q.stage()][warpgroup]));
  }
  __device__ uint64_t sK() const {
    return ptx::wgmma_at(ptx::wgmma_descriptor(0, kEightRows),
                         shared_address(shared.kv(k.stage())));
  }
  __device__ uint64_t sV() const {
    return ptx::wgmma_at(ptx::wgmma_descriptor(sizeof(typename Shared::KvPanel), kEightRows),
                         shared_address(shared.kv(v.stage())));
  }

  // All warps of the warpgroup waited for the tile's last Q K^T, as a turn says too: O may be in Q.
  static constexpr int kQRead = kTurn + kShape.warpgroups;  // of warpgroup 0

  // A block of keys that only other warpgroups see.
  __device__ void skip_block() {
    take_turn();
    pass_turn();
    wait_k();
    release_kv(k);
    wait_kv(v);
    release_kv(v);
  }

  template <int kKeys>
  __device__ void issue_qk() {
    take_turn();
    wait_k();
    Block::template multiply_qk<kKeys>(rS, sQ(), sK());
    pass_turn();
  }
  __device__ void finish_qk() {
    ptx::wgmma_wait_group<0>(rS);
    release_kv(k);
  }

  // Computed again for each block that needs it, instead of held in registers across the loop.
  template <int kKeys>
  __device__ void mask_block(int block) {
    const int row =
        ptx::opaque(work().tile.row + static_cast<int>(threadIdx.x) / 32 * kSm90WarpRows) +
        lane / 4;
    const KeyRange visible[2] = {work().mask.keys(args.schedule.query(row)),
                                 work().mask.keys(args.schedule.query(row + 8))};
    if constexpr (kRules)
      rules.template apply_one_by_one<kKeys>(rS, visible, block * kTileKv, lane % 4 * 2);
    else
      mask_scores<kKeys>(rS, visible, block * kTileKv + lane % 4 * 2);
  }
  __device__ bool needs_mask(int block) const {
    return block * kTileKv < unmasked.begin || unmasked.end - block * kTileKv < kTileKv;
  }

  // Q K^T, if it is not there, and softmax of the tile's last block, with which the walk begins.
  template <int kKeys>
  __device__ void first_block() {
    if (!has_s) {
      issue_qk<kKeys>();
      finish_qk();
    }
    const bool masked = kRules || needs_mask(blocks.last);
    if (kSoftcap && masked) mask_block<kKeys>(blocks.last);
    if constexpr (kSoftcap) softcap_scores(rS, inverse);
    if (masked) mask_block<kKeys>(blocks.last);
    float rescale[2];
    if (raise_max<kKeys, false>(rS, softmax, rescale, factor).coarse && kCoarse)
      weigh_scores<0, kKeys, true>(rS, softmax, factor);
    else
      weigh_scores<0, kKeys, false>(rS, softmax, factor);
    Block::template pack_p<kKeys>(rP, rS);
    if (has_s) release_q_before();
  }

  // Q K^T and softmax of the block behind `block`, with P V of that one, which had kKeys keys.
  template <int kKeys, bool kMasked>
  __device__ void step(int& block) {
    const bool add = block < blocks.last;
    block = behind(block);
    take_turn();
    wait_k();
    Block::template multiply_qk<kTileKv>(rS, sQ(), sK());
    wait_kv(v);
    Block::template multiply_pv<kKeys>(rO, rP, sV(), add);
    pass_turn();
    [[maybe_unused]] typename Rules::Ahead ahead;
    if constexpr (kRules && !kMasked) rules.load(ahead, block * kTileKv);
    ptx::wgmma_wait_group<1>(rS);
    release_kv(k);
    if constexpr (kSoftcap && kMasked) mask_block<kTileKv>(block);
    if constexpr (kSoftcap) softcap_scores(rS, inverse);
    if constexpr (kRules && !kMasked) rules.apply(rS, ahead, block * kTileKv);
    if constexpr (kMasked) mask_block<kTileKv>(block);
    float rescale[2];
    const auto [rises, coarse] = raise_max<kTileKv, Block::kIfRises>(rS, softmax, rescale, factor);
    // P V runs during the maximum and the first exponentials; then V's buffer is passed on, and
    // the other exponentials run while the next block is on its way. The barrier keeps ptxas
    // from moving the wait for P V up. With masks and rules registers do not suffice for it.
    constexpr bool kSplit = !kRules && !kMasked;
    constexpr int kBefore = kSplit ? kShape.keys_before_pv : kTileKv;
    if (kCoarse && coarse)
      weigh_scores<0, kTileKv, true>(rS, softmax, factor);
    else
      weigh_scores<0, kBefore, false>(rS, softmax, factor);
    if constexpr (kSplit) ptx::sync_warp_after(softmax[0].l + softmax[1].l);
    ptx::wgmma_wait_group<0>(rO);
    release_kv(v);
    if (!kCoarse || !coarse) weigh_scores<kBefore, kTileKv, false>(rS, softmax, factor);
    Block::template pack_p<kTileKv>(rP, rS);
    Block::rescale_o(rO, rescale, rises);
  }

  // From the last block to the first, of which P V is issued and not waited for.
  __device__ void walk() {
    int block = blocks.last;
    bool half = blocks.half;
    half ? first_block<Block::kHalfBlock>() : first_block<kTileKv>();
    if (half && behind(block) >= blocks.first) {
      step<Block::kHalfBlock, true>(block);
      half = false;
    }
    while (behind(block) >= blocks.first) {
      needs_mask(behind(block)) ? step<kTileKv, true>(block) : step<kTileKv, false>(block);
    }
    wait_kv(v);
    if (half)
      Block::template multiply_pv<Block::kHalfBlock>(rO, rP, sV(), block < blocks.last);
    else
      Block::template multiply_pv<kTileKv>(rO, rP, sV(), block < blocks.last);
    pv_pending = true;
  }

  __device__ void finish_pv() {
    ptx::wgmma_wait_group<0>(rO);
    release_kv(v);
    pv_pending = false;
  }

  // The tile to come, when its description is there.
  __device__ void read_work() {
    const typename Shared::Work& tile = work();
    end = tile.end;
    unmasked = tile.unmasked[warpgroup];
    const KeyRange keys = tile.visible[warpgroup];
    const int first = tile.first, last = tile.last;
    blocks = {first, first - 1, false, 0, false};
    if (keys.begin >= keys.end) return;
    blocks.first = keys.begin / kTileKv;
    blocks.last = (keys.end - 1) / kTileKv;
    blocks.half = keys.end - blocks.last * kTileKv <= Block::kHalfBlock;
    blocks.before = blocks.first - first;
    blocks.to_last = blocks.last == last;
  }
  __device__ const typename Shared::Work& work() const { return shared.work[q.work()]; }

  // O and LSE out, the maxima with them as scores.
  __device__ void write_tile() {
    if constexpr (kSoftcap)
#pragma unroll
      for (Softmax& of_row : softmax) of_row.m = softcapped_score(of_row.m, args.forward.softcap);
    Epilogue::write(args, shared, q.before(), rO, softmax, kSoftcap ? kLog2E : factor);
  }

  // The end of a tile. Where the next one allows it, Q K^T of its last block runs beside it.
  __device__ void end_tile() {
    has_s = kAhead && pv_pending && blocks.to_last;
    if (has_s && blocks.half) {
      end_tile_with_qk<Block::kHalfBlock>();
    } else if (has_s) {
      end_tile_with_qk<kTileKv>();
    } else {
      ptx::wgmma_wait_group<0>(rO);
      if (pv_pending) release_kv(v);
      ptx::barrier_sync(kQRead + warpgroup, kSm90WarpgroupThreads);
      write_tile();
      release_q_before();
    }
  }
  template <int kKeys>
  __device__ void end_tile_with_qk() {
    issue_qk<kKeys>();
    ptx::wgmma_wait_group<1>(rO);
    release_kv(v);
    write_tile();
    finish_qk();
  }

  __device__ void run() {
    if (warpgroup == kLast) pass_turn();  // the first turn is warpgroup 0's
    wait_q();
    read_work();
    while (!end) {
      softmax[0] = softmax[1] = {};
      pv_pending = false;
      if constexpr (kRules) {
        rules.begin_tile(work(), static_cast<int>(threadIdx.x) / 32 * kSm90WarpRows + lane / 4,
                         lane);
        next_block = work().last;
      }
      if (!has_s)
#pragma unroll 1
        for (int block = work().last; block > blocks.last; block = behind(block)) skip_block();
      if constexpr (kRules) {
        blocks.half = blocks.half && next_block == blocks.last;
        blocks.last = next_block;
      }
      if (blocks.first <= blocks.last) walk();
      const bool skips = pv_pending && kLateRead && work().first < blocks.first;
      q.next();
      if (kRules ? next_block >= 0 : kLateRead ? skips : pv_pending && blocks.before > 0) {
        if (!kRules || pv_pending) finish_pv();
        skip_block();
      }
      if constexpr (!kAhead) end_tile();
      wait_q();
      read_work();
      if constexpr (kAhead) end_tile();
    }
    // The last warpgroup has arrived once more than warpgroup 0 waited: no barrier stays half full.
    if (warpgroup == 0) take_turn();
    if (lane == 0) ptx::cp_async_bulk_wait_group_read();
  }
};

template <Type kType, int kDimQk, int kDimV, Sm90Variant kVariant>
static __global__ void __launch_bounds__(sm90_shape(kDimQk, kDimV, kVariant)->threads(), 1)
    sm90_forward(const __grid_constant__ Sm90ForwardArgs args) {
  using Kernel = Sm90Forward<kType, kDimQk, kDimV, kVariant>;
  using Shared = typename Kernel::Shared;
  constexpr Sm90Shape kShape = *sm90_shape(kDimQk, kDimV, kVariant);
  static_assert(sizeof(Shared) <= kShape.smem_bytes());
  static_assert(kShape.warpgroups * kShape.math_registers() + kShape.producer_registers() <=
                kShape.launch_registers() * (kShape.warpgroups + 1));
  extern __shared__ __align__(1024) unsigned char smem[];
  Shared& shared = *reinterpret_cast<Shared*>(smem);

  const int warpgroup =
      __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kSm90WarpgroupThreads, 0);
  if (threadIdx.x == 0) shared.init_barriers();
  __syncthreads();

  if (warpgroup == kShape.warpgroups) {
    ptx::setmaxnreg_dec<kShape.producer_registers()>();
    // Combine may begin; an idle warp says so, since anywhere else ptxas runs out of registers.
    if (threadIdx.x / 32 == kShape.math_warps() + 1) ptx::griddepcontrol_launch_dependents();
    if (threadIdx.x / 32 == kShape.math_warps())
      Sm90Producer<Element<kType>, kDimQk, kDimV, Kernel::kRules>::produce(args, shared);
  } else {
    ptx::setmaxnreg_inc<kShape.math_registers()>();
    Kernel(args, shared, warpgroup).run();
  }
}

}  // namespace qkv::kernels
