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

// Where a thread is in a ring of buffers (CUTLASS: PipelineState).
struct Sm90Ring {
  uint32_t count = 0;  // of buffers that the thread is done with
  __device__ uint32_t stage() const { return count % kSm90Stages; }
  // Of the phase of the stage's barriers: it flips each time that the ring comes round.
  __device__ uint32_t parity() const { return count / kSm90Stages % 2; }
  __device__ void next() { ++count; }
};

template <class T>
struct Sm90Shared {
  T q[kSm90Stages][kSm90MathWarpgroups][kSm90Panels][kSm90Rows][kSm90Panel];
  T k[kSm90Stages][kSm90Panels][kSm90TileKv][kSm90Panel];
  T v[kSm90Stages][kSm90Panels][kSm90TileKv][kSm90Panel];
  T o[kSm90MathWarps][kSm90Panels][kSm90WarpRows][kSm90Panel];
  // full: a math warpgroup waits until TMA has written the stage. empty: the producer waits until
  // all math warps have read it.
  uint64_t q_full[kSm90Stages][kSm90MathWarpgroups], q_empty[kSm90Stages];
  uint64_t k_full[kSm90Stages], k_empty[kSm90Stages], v_full[kSm90Stages], v_empty[kSm90Stages];
  // In v_full's stead where the block of V has rows at or past the length: the producer waits for
  // the copy, sets these rows to 0, then arrives at v_full itself.
  uint64_t v_tail;
  Sm90Work work[kSm90Stages];  // full and empty together with q
};

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// The number of the tile's set in its batch, a coordinate of TMA's descriptors of Q and O.
__device__ inline int set_of(const Sm90ForwardArgs& args, const WorkTile& at) {
  return args.schedule.query(at.head);  // head / group
}

}  // namespace qkv::kernels
