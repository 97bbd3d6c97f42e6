// The list of a row's k best keys in shared memory, best first, and beside it the keys that wait to
// be put into it. One warp has the list. What is in it depends on the keys alone, not on when they
// came.
#pragma once

#include <cstdint>

#include "kernels/core/ranked_key.h"
#include "kernels/core/top_list.h"

namespace qkv::kernels {

struct TopList {
  RankedKey* keys;  // [k], 0 behind the last; then [kTopPending] waiting ones
  int k;

  __device__ RankedKey* pending() const { return keys + k; }

  // The score that a key has to beat; -inf of a list that is not full.
  __device__ float bar() const { return score_of(keys[k - 1]); }

  // Puts `count` > 0 waiting keys into the list, up to kTopPending; all lanes of the warp together,
  // who have written them. All of the warp see the list then.
  __device__ void merge(int count, int lane) const {
    __syncwarp();  // the waiting keys are there
    const RankedKey mine = lane < count ? pending()[lane] : 0;
    int place = better(mine);
    // Each key of the list moves down by the number of waiting ones that beat it. From the last 32
    // of the list to the first, since what is moved is read before.
    int at = (k - 1) / 32 * 32 + lane;
    RankedKey old = at < k ? keys[at] : 0;
    int to = at;
#pragma unroll 4
    for (int j = 0; j < count; ++j) {
      const RankedKey other = pending()[j];
      place += other > mine ? 1 : 0;
      to += other > old ? 1 : 0;
    }
    __syncwarp();  // all have read what is overwritten
    if (to < k && to > at) keys[to] = old;
#pragma unroll 1
    for (at -= 32; at >= 0; at -= 32) {
      old = keys[at];
      to = at;
#pragma unroll 4
      for (int j = 0; j < count; ++j) to += pending()[j] > old ? 1 : 0;
      __syncwarp();  // as above
      if (to < k && to > at) keys[to] = old;
    }
    __syncwarp();  // all moves are made
    if (lane < count && place < k) keys[place] = mine;
    __syncwarp();
  }

 private:
  // Keys of the list that beat `key`: it is in order.
  __device__ int better(RankedKey key) const {
    int n = 0;
#pragma unroll
    for (int step = 128; step > 0; step /= 2)
      if (n + step <= k && keys[n + step - 1] > key) n += step;
    return n;
  }
};

}  // namespace qkv::kernels
