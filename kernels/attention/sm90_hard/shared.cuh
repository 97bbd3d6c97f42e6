// sm90_hard's shared memory, and what producer and math warpgroups know of it.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_hard/args.h"
#include "kernels/attention/sm90_hard/policy.h"
#include "kernels/core/mask.h"
#include "kernels/core/scheduler.h"
#include "kernels/ptx/mbarrier.h"

namespace qkv::kernels {

// One tile, as the producer describes it to the math warpgroups.
struct Sm90HardWork {
  WorkTile tile;
  KeyMask mask;
  KeyRange keys;    // of the split, that at least one row sees
  int first, last;  // blocks of keys to walk; last < first: none
  bool end;         // there are no more tiles
};

// Where a thread is in a ring of buffers.
template <int kStages>
struct Sm90HardRing {
  uint32_t stage = 0;
  uint32_t parity = 0;  // of the phase of the stage's barriers: it flips each time round
  __device__ void next() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

template <class T, int kDim>
struct Sm90HardShared {
  static constexpr Sm90HardShape kShape = *sm90_hard_shape(kDim);
  static_assert(kShape.dim == kDim && kDim <= kSm90HardMaxDim);
  using QRing = Sm90HardRing<kShape.q_stages>;
  using KRing = Sm90HardRing<kShape.k_stages>;

  T q[kShape.q_stages][kSm90HardWarpgroups][kShape.panels()][kSm90HardRows][kSm90HardPanel];
  T k[kShape.k_stages][kShape.panels()][kSm90HardTileKv][kSm90HardPanel];
  // full: TMA has written the stage. empty: all math warps have read it.
  uint64_t q_full[kShape.q_stages], q_empty[kShape.q_stages];
  uint64_t k_full[kShape.k_stages], k_empty[kShape.k_stages];
  Sm90HardWork work[kShape.q_stages];  // full and empty together with q

  // One thread, before all others go on.
  __device__ void init_barriers() {
    for (uint64_t& full : q_full) ptx::mbarrier_init(shared_address(&full), 1);
    for (uint64_t& full : k_full) ptx::mbarrier_init(shared_address(&full), 1);
    for (uint64_t& empty : q_empty) ptx::mbarrier_init(shared_address(&empty), kSm90HardMathWarps);
    for (uint64_t& empty : k_empty) ptx::mbarrier_init(shared_address(&empty), kSm90HardMathWarps);
    ptx::fence_mbarrier_init();
  }
};

}  // namespace qkv::kernels
