// What sm90_forward's warpgroups share.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_forward/args.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/mask.h"
#include "kernels/core/scheduler.h"
#include "kernels/ptx/cp_async_bulk.h"
#include "kernels/ptx/mbarrier.h"

namespace qkv::kernels {

inline constexpr int kSm90Panel = 64;                       // dims in 128 bytes
inline constexpr int kSm90Warps = 4 * kSm90MathWarpgroups;  // that compute

// One tile, as the producer describes it to the math warpgroups.
struct Sm90Work {
  WorkTile tile;
  int first, last;  // blocks of keys that some row sees; a tile without any has last < first
  KeyMask mask;
  KeyRange any[kSm90MathWarpgroups], all[kSm90MathWarpgroups];  // seen by any and by all rows
  bool end;                                                     // there are no more tiles
};

// Two places, filled and emptied in turn.
struct Sm90Ring {
  uint32_t count = 0;
  __device__ uint32_t place() const { return count % 2; }
  __device__ uint32_t parity() const { return count / 2 % 2; }  // of the phase that fills the place
  __device__ void next() { ++count; }
};

// Tiles are as TMA's 128-byte swizzle leaves them: panels of 64 dims, a row of 128 bytes for each
// query or key.
template <class T>
struct Sm90Shared {
  T q[2][kSm90MathWarpgroups][2][kSm90Rows][kSm90Panel];
  T k[2][2][kSm90TileKv][kSm90Panel];
  T v[2][2][kSm90TileKv][kSm90Panel];
  T o[kSm90Warps][2][16][kSm90Panel];
  // full: the math warpgroups wait for the producer's copies; empty: the producer waits until all
  // math warps have read the place.
  uint64_t q_full[2][kSm90MathWarpgroups], q_empty[2];
  uint64_t k_full[2], k_empty[2], v_full[2], v_empty[2];
  uint64_t v_tail;   // the producer waits for the copy that it has to mend
  Sm90Work work[2];  // beside q
};

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// The tile's set in its batch: a coordinate of TMA.
__device__ inline int set_of(const Sm90ForwardArgs& args, const WorkTile& at) {
  return args.schedule.query(at.head);  // head / group
}

}  // namespace qkv::kernels
