// Top-k selection of simt_general: o_i = softmax over the k best scores of a row. NaN beats every
// number, the lowest j wins ties, -inf never wins.
//
// Each row has a list of its best keys in shared memory, in order. A key whose score passes the
// list's last one, the bar, is put in at once, by the row's lanes together; about k ln(s_kv / k) of
// a row's keys do.
#pragma once

#include <cstdint>

#include "kernels/attention/simt_general/policy.h"
#include "kernels/core/best_key.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"

namespace qkv::kernels {

extern __shared__ BestKey simt_general_lists[];  // [kTileQ][k]

template <class Tile>
struct TopKSelection {
  using T = typename Tile::T;
  static constexpr int kRows = Tile::kRows, kKeys = Tile::kKeys, kLanes = Tile::kLanes;
  static_assert(kLanes == 16, "two rows share a warp");
  static constexpr unsigned kWarp = 0xffffffffu, kHalf = 0xffffu;

  int count[kRows];     // keys in the list
  float bar[kRows];     // the last score of a full list, else -inf
  float m[kRows];       // the first score
  float l[kRows];       // the sum of e^(S - m)
  int last_key[kRows];  // of the list

  const TopKArgs& top;

  __device__ explicit TopKSelection(const TopKArgs& top) : top(top) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) count[r] = 0, bar[r] = m[r] = -INFINITY, l[r] = 0;
  }

  __device__ BestKey* list_of(const Tile& tile, int r) const {
    return simt_general_lists + (tile.row0 + r) * top.k;
  }
  static __device__ int shift_of_half() { return static_cast<int>(threadIdx.x) & 16; }

  // Puts a key into the list of row r, behind all that it does not beat: those have lower numbers.
  // Both halves of the warp together, each for its own row; `active`: this half has a key.
  __device__ void insert(BestKey* list, int r, const BestKey& key, int lane, bool active) {
    const int most = max(count[r], __shfl_xor_sync(kWarp, count[r], 16));
    int stay = 0;
    for (int first = (most - 1) / kLanes * kLanes; first >= 0; first -= kLanes) {
      const int at = first + lane;
      const bool there = active && at < count[r];
      BestKey old{-INFINITY, kNoKey};
      if (there) old = list[at];
      const bool moves = there && beats(key.score, old.score);
      stay += __popc(__ballot_sync(kWarp, there && !moves) >> shift_of_half() & kHalf);
      __syncwarp();  // all have read what is overwritten
      if (moves && at + 1 < top.k) list[at + 1] = old;
      __syncwarp();
    }
    if (active) {
      if (lane == 0) list[stay] = key;
      count[r] = min(count[r] + 1, top.k);
    }
    __syncwarp();
    if (active && count[r] == top.k) bar[r] = list[top.k - 1].score;
  }

  // Keys come in ascending order: those of a tile lane by lane, then the next kLanes.
  __device__ void update(const Tile& tile, float (&rS)[kRows][kKeys], int j0, int) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int j = 0; j < kKeys; ++j) {
        unsigned left = __ballot_sync(kWarp, beats(rS[r][j], bar[r]));
        while (left != 0) {
          const unsigned mine = left >> shift_of_half() & kHalf;
          const int from = mine == 0 ? 0 : __ffs(static_cast<int>(mine)) - 1;
          const float score = __shfl_sync(kWarp, rS[r][j], from, kLanes);
          insert(list_of(tile, r), r, {score, j0 + from + j * kLanes}, tile.lane,
                 mine != 0 && beats(score, bar[r]));
          const unsigned low = left & kHalf, high = left >> 16;
          left = (low & (low - 1)) | (high & (high - 1)) << 16;
        }
      }
    }
  }

  // m, l, index and top_scores; the lists' scores become weights.
  __device__ void finish_lists(const Tile& tile) {
    const ForwardArgs& args = tile.args;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      BestKey* const list = list_of(tile, r);
      if (count[r] > 0) m[r] = list[0].score;
      last_key[r] = count[r] > 0 ? list[count[r] - 1].key : kNoKey;
      bar[r] = count[r] > 0 ? list[count[r] - 1].score : -INFINITY;
      __syncwarp();
      const bool exists = tile.row0 + r < tile.rows;
      for (int n = tile.lane; n < top.k; n += kLanes) {
        const bool there = n < count[r];
        const BestKey key = there ? list[n] : BestKey{-INFINITY, -1};
        if (exists) write_key(tile, r, n, key);
        if (!there) continue;
        list[n].score = weight(r, key.score);
        l[r] += list[n].score;
      }
      l[r] = Tile::Tile::reduce_row(l[r], [](float a, float b) { return a + b; });
      __syncwarp();  // the weights are there
    }
  }

  __device__ void write_key(const Tile& tile, int r, int n, const BestKey& key) const {
    const ForwardArgs& args = tile.args;
    const auto at = [&](const Tensor& t) {
      return tile.batch * t.batch + tile.head * t.head + (tile.i0 + tile.row0 + r) * t.row + n;
    };
    if (top.scores.data != nullptr)
      static_cast<float*>(top.scores.data)[at(top.scores)] = key.score;
    if (args.index.data == nullptr) return;
    if (args.index_i64)
      static_cast<int64_t*>(args.index.data)[at(args.index)] = key.key;
    else
      static_cast<int32_t*>(args.index.data)[at(args.index)] = key.key;
  }

  __device__ float weight(int r, float s) const { return ptx::ex2_approx_ftz(kLog2E * (s - m[r])); }

  __device__ void reduce_lanes() {}

  __device__ void write_o(const Tile& tile) {
    finish_lists(tile);
    T* gO = static_cast<T*>(tile.args.o.data);
    tile.each_row(tile.args.o, [&](int r, int64_t offset) {
      const BestKey* const list = list_of(tile, r);
      const float inverse = 1 / l[r];
      for (int d = tile.lane; d < tile.args.d_v; d += kLanes) {
        float o = 0;
        for (int n = 0; n < count[r]; ++n)
          o = fmaf(list[n].score, to_float(tile.gV[list[n].key * tile.args.v.row + d]), o);
        gO[offset + d] = from_float<T>(count[r] == 0 ? 0 : o * inverse);
      }
    });
  }

  __device__ float lse(int r) const { return count[r] == 0 ? -INFINITY : m[r] + logf(l[r]); }
  __device__ int index(int) const { return -1; }
  // After finish_lists() the bar is the score of the list's last key, full or not.
  __device__ float probability(int r, float s, int j) const {
    const bool chosen = beats(s, bar[r]) || (!beats(bar[r], s) && j <= last_key[r]);
    return count[r] > 0 && chosen ? weight(r, s) / l[r] : 0;
  }
};

}  // namespace qkv::kernels
