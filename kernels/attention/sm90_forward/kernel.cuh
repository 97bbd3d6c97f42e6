// sm90_forward: O = softmax(S) V and LSE on Hopper, with TMA, mbarriers and wgmma. fp16 and bf16,
// head dims up to kSm90Dim.
//
// A thread block stays on its multiprocessor and computes one tile of kSm90TileQ query rows after
// the other (persistent kernel). A producer warp copies Q, K and V by TMA; two math warpgroups own
// kSm90Rows rows each, from scores to output. A warpgroup walks over the blocks of keys, the last
// one first, and issues Q K^T of a block together with P V of the block before, so that the tensor
// cores work on P V during the block's softmax. The warpgroups take turns in issuing, so that one's
// softmax overlaps the other's products (ping-pong). Q has two buffers, in which O is left in its
// tile's place: the next tile begins while this one is stored. kernels/README.md draws it.
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
#include "kernels/core/numeric.cuh"
#include "kernels/ptx/barrier.h"
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
template <Type kType, bool kSoftcap>
struct Sm90Forward {
  using Block = Sm90Block<kType>;
  using T = typename Block::T;
  using Shared = Sm90Shared<T>;
  using Softmax = typename Block::Softmax;
  using Epilogue = Sm90Epilogue<T, Softmax>;

  // The blocks of keys that the warpgroup's rows see of a tile; none if last < first.
  struct Blocks {
    int first, last;
    bool half;        // of the last one only the first half, as on warpgroup 0's causal diagonal
    bool from_first;  // and the other warpgroup sees no earlier one
    bool to_last;     // nor a later one
  };

  const Sm90ForwardArgs& args;
  Shared& shared;
  const int warpgroup;
  const int lane;
  const float factor;   // log2(e), with the scale folded in, or the softcap
  const float inverse;  // scale / softcap

  Sm90QRing q;
  Sm90KvRing k{0}, v{1};
  bool has_s = false;  // rS is S of the tile's last block, computed during the tile before
  typename Block::Output rO;
  typename Block::Scores rS;
  typename Block::PackedP rP;

  // Of the tile; `end`: there is none.
  bool end;
  KeyRange unmasked;
  Blocks blocks;
  Softmax softmax[2];
  int add;          // with a softcap, see adds()
  bool pv_pending;  // the tile's last P V is under way, V's stage not released

  __device__ Sm90Forward(const Sm90ForwardArgs& args, Shared& shared, int warpgroup)
      : args(args),
        shared(shared),
        warpgroup(warpgroup),
        lane(static_cast<int>(threadIdx.x) % 32),
        factor((kSoftcap ? args.forward.softcap : args.forward.scale) * kLog2E),
        inverse(kSoftcap ? args.forward.scale / args.forward.softcap : 0) {}

  // The math warpgroups issue their products in turn, once for each block of keys: a warpgroup
  // waits at its own named barrier until the other one has arrived there.
  static constexpr int kTurn = 1;  // the barrier of warpgroup 0; 2: of warpgroup 1
  __device__ void take_turn() { ptx::barrier_sync(kTurn + warpgroup, kSm90MathThreads); }
  __device__ void pass_turn() { ptx::barrier_arrive(kTurn + 1 - warpgroup, kSm90MathThreads); }

  __device__ void wait_q() {
    ptx::mbarrier_wait(shared_address(&shared.q_full[q.stage()][warpgroup]), q.parity());
  }
  __device__ void wait_kv(const Sm90KvRing& ring) {
    ptx::mbarrier_wait(shared_address(&shared.kv_full[ring.stage()]), ring.parity());
  }
  __device__ void release_kv(Sm90KvRing& ring) {
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(shared_address(&shared.kv_empty[ring.stage()]));
    ring.next();
  }
  // Of the tile before, when O's store has read it.
  __device__ void release_q_before() {
    __syncwarp();
    if (lane != 0) return;
    ptx::cp_async_bulk_wait_group_read();
    ptx::mbarrier_arrive(shared_address(&shared.q_empty[q.stage() ^ 1]));
  }

  static constexpr uint32_t kEightRows = 8 * kSm90PanelBytes;  // the swizzle's period
  __device__ uint64_t sQ() const {
    return ptx::wgmma_at(ptx::wgmma_descriptor(0, kEightRows),
                         shared_address(shared.q[q.stage()][warpgroup]));
  }
  __device__ uint64_t sK() const {
    return ptx::wgmma_at(ptx::wgmma_descriptor(0, kEightRows),
                         shared_address(shared.kv[k.stage()]));
  }
  __device__ uint64_t sV() const {
    return ptx::wgmma_at(ptx::wgmma_descriptor(sizeof shared.kv[0][0], kEightRows),
                         shared_address(shared.kv[v.stage()]));
  }

  // The warpgroup's own barrier: all its warps have waited for the tile's last Q K^T, so that O may
  // be written over Q. Taking a turn says the same.
  static constexpr int kQRead = 3;  // of warpgroup 0; 4: of warpgroup 1

  // A block of keys that only the other warpgroup sees.
  __device__ void skip_block() {
    take_turn();
    pass_turn();
    wait_kv(k);
    release_kv(k);
    wait_kv(v);
    release_kv(v);
  }

  template <int kKeys>
  __device__ void issue_qk() {
    take_turn();
    wait_kv(k);
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
    Block::template apply_mask<kKeys>(rS, visible, block * kSm90TileKv + lane % 4 * 2);
  }
  __device__ bool needs_mask(int block) const {
    return block * kSm90TileKv < unmasked.begin || unmasked.end - block * kSm90TileKv < kSm90TileKv;
  }

  // Q K^T, if it is not there, and softmax of the tile's last block, with which the walk begins.
  template <int kKeys>
  __device__ void first_block() {
    if (!has_s) {
      issue_qk<kKeys>();
      finish_qk();
    }
    if constexpr (kSoftcap) Block::apply_softcap(rS, inverse);
    if (needs_mask(blocks.last)) mask_block<kKeys>(blocks.last);
    float rescale[2];
    if (Block::template raise_max<kKeys>(rS, softmax, rescale, factor))
      Block::template exponentials<0, kKeys, true>(rS, softmax, factor);
    else
      Block::template exponentials<0, kKeys, false>(rS, softmax, factor);
    Block::template pack_p<kKeys>(rP, rS);
    if (has_s) release_q_before();
  }

  // Whether P V of `block` is added to rO; 0: it is the tile's first and overwrites rO. ptxas runs
  // out of registers (C7511) where a plain kernel asks a flag, or one with a softcap the block.
  __device__ int adds(int block) {
    if constexpr (!kSoftcap) return block < blocks.last;
    const int added = add;
    add = 1;
    return added;
  }

  // Q K^T and softmax of `block`, with P V of the block after it, which had kKeys keys.
  template <int kKeys, bool kMasked>
  __device__ void step(int block) {
    take_turn();
    wait_kv(k);
    Block::template multiply_qk<kSm90TileKv>(rS, sQ(), sK());
    wait_kv(v);
    Block::template multiply_pv<kKeys>(rO, rP, sV(), adds(block + 1));
    pass_turn();
    ptx::wgmma_wait_group<1>(rS);
    release_kv(k);
    if constexpr (kSoftcap) Block::apply_softcap(rS, inverse);
    if constexpr (kMasked) mask_block<kSm90TileKv>(block);
    float rescale[2];
    const bool coarse = Block::template raise_max<kSm90TileKv>(rS, softmax, rescale, factor);
    // P V runs during the maximum and the first exponentials; then V's buffer is passed on, and
    // the other exponentials run while the next block is on its way. The barrier keeps ptxas
    // from moving the wait for P V up. With a mask or softcap registers do not suffice for it.
    constexpr int kBefore = kMasked || kSoftcap ? kSm90TileKv : kSm90KeysBeforePv;
    if (coarse)
      Block::template exponentials<0, kSm90TileKv, true>(rS, softmax, factor);
    else
      Block::template exponentials<0, kBefore, false>(rS, softmax, factor);
    if constexpr (!kMasked && !kSoftcap) ptx::sync_warp_after(softmax[0].l + softmax[1].l);
    ptx::wgmma_wait_group<0>(rO);
    release_kv(v);
    if (!coarse) Block::template exponentials<kBefore, kSm90TileKv, false>(rS, softmax, factor);
    Block::template pack_p<kSm90TileKv>(rP, rS);
#pragma unroll
    for (int x = 0; x < kSm90Dim / 2; ++x) rO[x] *= rescale[x / 2 % 2];
  }

  // From the last block to the first, of which P V is issued and not waited for.
  __device__ void walk() {
    int block = blocks.last;
    bool half = blocks.half;
    if (half)
      first_block<Block::kHalfBlock>();
    else
      first_block<kSm90TileKv>();
    if (half && block > blocks.first) {
      step<Block::kHalfBlock, true>(--block);
      half = false;
    }
    while (block > blocks.first) {
      if (needs_mask(--block))
        step<kSm90TileKv, true>(block);
      else
        step<kSm90TileKv, false>(block);
    }
    wait_kv(v);
    if (half)
      Block::template multiply_pv<Block::kHalfBlock>(rO, rP, sV(), adds(block));
    else
      Block::template multiply_pv<kSm90TileKv>(rO, rP, sV(), adds(block));
    pv_pending = true;
  }

  __device__ void finish_pv() {
    ptx::wgmma_wait_group<0>(rO);
    release_kv(v);
    pv_pending = false;
  }

  // The tile to come, when its description is there.
  __device__ void read_work() {
    const Sm90Work& tile = work();
    end = tile.end;
    unmasked = tile.unmasked[warpgroup];
    const KeyRange keys = tile.visible[warpgroup];
    const int first = tile.first, last = tile.last;
    blocks = {first, first - 1, false, false, false};
    if (keys.begin >= keys.end) return;
    blocks.first = keys.begin / kSm90TileKv;
    blocks.last = (keys.end - 1) / kSm90TileKv;
    blocks.half = keys.end - blocks.last * kSm90TileKv <= Block::kHalfBlock;
    blocks.from_first = blocks.first == first;
    blocks.to_last = blocks.last == last;
  }
  __device__ const Sm90Work& work() const { return shared.work[q.stage()]; }

  // O and LSE out. Where the next tile allows it, Q K^T of its last block is computed beside it.
  __device__ void end_tile() {
    // With softcap registers do not suffice.
    has_s = !kSoftcap && pv_pending && blocks.to_last;
    if (has_s && blocks.half) {
      end_tile_with_qk<Block::kHalfBlock>();
    } else if (has_s) {
      end_tile_with_qk<kSm90TileKv>();
    } else {
      ptx::wgmma_wait_group<0>(rO);
      if (pv_pending) release_kv(v);
      ptx::barrier_sync(kQRead + warpgroup, kSm90WarpgroupThreads);
      Epilogue::write(args, shared, q.stage() ^ 1, rO, softmax, factor);
      release_q_before();
    }
  }
  template <int kKeys>
  __device__ void end_tile_with_qk() {
    issue_qk<kKeys>();
    ptx::wgmma_wait_group<1>(rO);
    release_kv(v);
    Epilogue::write(args, shared, q.stage() ^ 1, rO, softmax, factor);
    finish_qk();
  }

  __device__ void run() {
    if (warpgroup == 1) pass_turn();  // the first turn is warpgroup 0's
    wait_q();
    read_work();
    while (!end) {
      softmax[0] = softmax[1] = {};
      pv_pending = false;
      add = 0;
      if (!has_s)
#pragma unroll 1
        for (int block = work().last; block > blocks.last; --block) skip_block();
      if (blocks.first <= blocks.last) walk();
      q.next();
      if (pv_pending && !blocks.from_first) {
        finish_pv();
        skip_block();  // at most one: the warpgroups' first keys are less than a block apart
      }
      wait_q();
      if constexpr (!kSoftcap) read_work();
      end_tile();
      if constexpr (kSoftcap) read_work();
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
    for (int stage = 0; stage < kSm90QStages; ++stage) {
      for (uint64_t& full : shared.q_full[stage]) ptx::mbarrier_init(shared_address(&full), 1);
      ptx::mbarrier_init(shared_address(&shared.q_empty[stage]), kSm90MathWarps);
    }
    for (int stage = 0; stage < kSm90KvStages; ++stage) {
      ptx::mbarrier_init(shared_address(&shared.kv_full[stage]), 1);
      ptx::mbarrier_init(shared_address(&shared.kv_empty[stage]), kSm90MathWarps);
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
    Kernel(args, shared, warpgroup).run();
  }
}

}  // namespace qkv::kernels
