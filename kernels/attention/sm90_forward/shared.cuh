// sm90_forward's shared memory, and what producer and consumers know of it.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_forward/args.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/mask.h"
#include "kernels/core/scheduler.h"
#include "kernels/ptx/cp_async_bulk.h"
#include "kernels/ptx/mbarrier.h"

namespace qkv::kernels {

// One tile, as the producer describes it to the math warpgroups.
template <int kWarpgroups>
struct Sm90Work {
  WorkTile tile;
  int first, last;  // blocks of keys to load; last < first: none
  KeyMask mask;
  // Of each warpgroup's rows: the keys that at least one sees, and those that every row sees.
  KeyRange visible[kWarpgroups], unmasked[kWarpgroups];
  bool end;  // there are no more tiles
};

// Where a thread is in the buffers of Q (CUTLASS: PipelineState), and in the two of work.
template <int kStages>
struct Sm90QRing {
  uint32_t count = 0;  // of tiles that the thread is done with
  __device__ uint32_t stage() const { return count % kStages; }
  // Of the phase of the stage's barriers: it flips each time that the ring comes round.
  __device__ uint32_t parity() const { return count / kStages % 2; }
  __device__ uint32_t work() const { return count % 2; }
  __device__ Sm90QRing before() const { return {count ^ 1}; }
  __device__ void next() { ++count; }
};

// Where a thread is in the ring of K and V, which take turns in it: of all blocks that are copied
// K of block n is number 2n, V is number 2n + 1.
template <int kStages>
struct Sm90KvRing {
  uint32_t number;  // modulo two rounds of the ring; first 0 for K, 1 for V
  __device__ uint32_t stage() const { return parity() ? number - kStages : number; }
  __device__ uint32_t parity() const { return number >= kStages; }
  __device__ void next() {
    number += 2;
    if (number >= 2 * kStages) number -= 2 * kStages;
  }
};

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

template <class T, int kDimQk, int kDimV, bool kRules>
struct Sm90Shared {
  static constexpr Sm90Shape kShape =
      *sm90_shape(kDimQk, kDimV, kRules ? Sm90Variant::kRules : Sm90Variant::kPlain);
  static_assert(kShape.d_qk == kDimQk && kShape.d_v == kDimV);
  static_assert(kShape.kv_stages % 2 == 0 || kShape.k_bytes() == kShape.v_bytes());
  static_assert(kShape.d_v <= kShape.d_qk, "O fits into Q's place");
  using QRing = Sm90QRing<kShape.q_stages>;
  using Work = Sm90Work<kShape.warpgroups>;
  using KvRing = Sm90KvRing<kShape.kv_stages>;

  using QPanel = T[kSm90Rows][kSm90Panel];        // rows of a math warpgroup
  using KvPanel = T[kShape.tile_kv][kSm90Panel];  // keys of a block
  // The math warpgroups leave O in the place of their rows of Q, on its way to memory.
  QPanel q[kShape.q_stages][kShape.warpgroups][kShape.panels_qk()];
  unsigned char kv_bytes[kShape.kv_bytes()];
  // full: a math warpgroup waits until TMA has written the stage. empty: the producer waits until
  // all math warps have read it, and O's stores too.
  uint64_t q_full[kShape.q_stages][kShape.warpgroups], q_empty[kShape.q_stages];
  uint64_t kv_full[kShape.kv_stages], kv_empty[kShape.kv_stages];
  // In kv_full's stead where a block of V has rows at or past the length: the producer waits for
  // the copy, sets these rows to 0, then arrives at kv_full itself.
  uint64_t v_tail;
  // Of two tiles: full together with q; empty when the math warps are done with the tile.
  Work work[2];
  // With rules: the block of keys to walk behind the one whose K is in the stage, -1 if that is the
  // tile's last. Full and empty together with the stage.
  int32_t next_block[kShape.kv_stages];

  // The panels of a buffer of K or V.
  __device__ KvPanel* kv(uint32_t stage) {
    constexpr Sm90Shape kLocal = kShape;  // device code may not refer to the static member
    return reinterpret_cast<KvPanel*>(kv_bytes + kLocal.kv_offset(static_cast<int32_t>(stage)));
  }

  // One thread, before all others go on.
  __device__ void init_barriers() {
    constexpr Sm90Shape kLocal = kShape;
    for (int stage = 0; stage < kLocal.q_stages; ++stage) {
      for (uint64_t& full : q_full[stage]) ptx::mbarrier_init(shared_address(&full), 1);
      ptx::mbarrier_init(shared_address(&q_empty[stage]), kLocal.math_warps());
    }
    for (int stage = 0; stage < kLocal.kv_stages; ++stage) {
      ptx::mbarrier_init(shared_address(&kv_full[stage]), 1);
      ptx::mbarrier_init(shared_address(&kv_empty[stage]), kLocal.math_warps());
    }
    ptx::mbarrier_init(shared_address(&v_tail), 1);
    ptx::fence_mbarrier_init();
  }
};

// The number of the tile's set in its batch, a coordinate of TMA's descriptors of Q and O.
__device__ inline int set_of(const Sm90ForwardArgs& args, const WorkTile& at) {
  return args.schedule.query(at.head);  // head / group
}

}  // namespace qkv::kernels
