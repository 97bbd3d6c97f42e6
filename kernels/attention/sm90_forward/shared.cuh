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
struct Sm90Work {
  WorkTile tile;
  int first, last;  // blocks of keys to load; last < first: none
  KeyMask mask;
  // Of each warpgroup's rows: the keys that at least one sees, and those that every row sees.
  KeyRange visible[kSm90MathWarpgroups], unmasked[kSm90MathWarpgroups];
  bool end;  // there are no more tiles
};

// Where a thread is in the buffers of Q (CUTLASS: PipelineState).
struct Sm90QRing {
  uint32_t count = 0;  // of tiles that the thread is done with
  __device__ uint32_t stage() const { return count % kSm90QStages; }
  // Of the phase of the stage's barriers: it flips each time that the ring comes round.
  __device__ uint32_t parity() const { return count / kSm90QStages % 2; }
  __device__ void next() { ++count; }
};

// Where a thread is in the ring of K and V, which take turns in it: of all blocks that are copied
// K of block n is number 2n, V is number 2n + 1.
struct Sm90KvRing {
  uint32_t number;  // modulo two rounds of the ring; first 0 for K, 1 for V
  __device__ uint32_t stage() const { return parity() ? number - kSm90KvStages : number; }
  __device__ uint32_t parity() const { return number >= kSm90KvStages; }
  __device__ void next() {
    number += 2;
    if (number >= 2 * kSm90KvStages) number -= 2 * kSm90KvStages;
  }
};

template <class T>
struct Sm90Shared {
  // The math warpgroups leave O in the place of their rows of Q, on its way to memory.
  T q[kSm90QStages][kSm90MathWarpgroups][kSm90Panels][kSm90Rows][kSm90Panel];
  T kv[kSm90KvStages][kSm90Panels][kSm90TileKv][kSm90Panel];
  // full: a math warpgroup waits until TMA has written the stage. empty: the producer waits until
  // all math warps have read it, and O's stores too.
  uint64_t q_full[kSm90QStages][kSm90MathWarpgroups], q_empty[kSm90QStages];
  uint64_t kv_full[kSm90KvStages], kv_empty[kSm90KvStages];
  // In kv_full's stead where a block of V has rows at or past the length: the producer waits for
  // the copy, sets these rows to 0, then arrives at kv_full itself.
  uint64_t v_tail;
  Sm90Work work[kSm90QStages];  // full and empty together with q
};

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// The number of the tile's set in its batch, a coordinate of TMA's descriptors of Q and O.
__device__ inline int set_of(const Sm90ForwardArgs& args, const WorkTile& at) {
  return args.schedule.query(at.head);  // head / group
}

}  // namespace qkv::kernels
