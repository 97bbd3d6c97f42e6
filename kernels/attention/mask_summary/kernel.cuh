// mask_summary: for each tile of query rows and each block of keys, whether a boolean mask shows a
// key of the block to a row of the tile (core/mask_summary.h). A forward kernel then neither loads
// nor multiplies the others.
//
// A warp computes one byte. It reads its part of the mask in rows of the mask, eight lanes to a
// row, sixteen rows at a time, and ends with the first of these that has a key to show.
//
// Contract: every byte of the summary is written; no element of the mask is read but those of the
// tile's queries, its heads (all of a set's, once if the mask has one for all) and the block's
// keys.
#pragma once

#include <cstdint>

#include "kernels/attention/mask_summary/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask_summary.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

struct MaskSummaryArgs {
  PairTensor mask;
  MaskSummary summary;
  TileSchedule schedule;
  int32_t s_kv = 0;
  int32_t unit = 1;  // bytes that can be read as one: 16, 4 or 1
  int32_t* counter = nullptr;
};

namespace summarising {

inline constexpr int kLanesOfRow = 8, kRowsAtOnce = 16;
inline constexpr int kRowsOfWarp = 32 / kLanesOfRow;

__device__ inline uint32_t bits(uint4 x) { return x.x | x.y | x.z | x.w; }
__device__ inline uint32_t bits(uint32_t x) { return x; }

// What a lane sees of a row's `keys` keys, which begin at `row` and are its neighbours.
template <class Word>
__device__ inline uint32_t seen_of_row(const unsigned char* row, int keys) {
  constexpr int kKeys = sizeof(Word);
  const int lane = static_cast<int>(threadIdx.x) % kLanesOfRow;
  uint32_t seen = 0;
#pragma unroll
  for (int from = 0; from < kMaskSummaryTileKv; from += kLanesOfRow * kKeys)
    if (const int key = from + lane * kKeys; key + kKeys <= keys)
      seen |= bits(*reinterpret_cast<const Word*>(row + key));
  for (int key = keys / kKeys * kKeys + lane; key < keys; key += kLanesOfRow) seen |= row[key];
  return seen;
}

// The same, key by key at any stride.
__device__ inline uint32_t seen_of_row(const unsigned char* row, int keys, int64_t stride) {
  uint32_t seen = 0;
  for (int key = static_cast<int>(threadIdx.x) % kLanesOfRow; key < keys; key += kLanesOfRow)
    seen |= row[key * stride];
  return seen;
}

}  // namespace summarising

static __global__ void __launch_bounds__(kMaskSummaryThreads)
    mask_summary(const __grid_constant__ MaskSummaryArgs args) {
  using namespace summarising;
  const MaskSummary& summary = args.summary;
  const TileSchedule& schedule = args.schedule;
  if (blockIdx.x == 0 && threadIdx.x == 0 && args.counter != nullptr) *args.counter = 0;
  const int64_t number = int64_t{blockIdx.x} * (kMaskSummaryThreads / 32) + threadIdx.x / 32;
  if (number >= summary.bytes()) return;
  const auto block = static_cast<int>(number % summary.blocks);
  int64_t rest = number / summary.blocks;
  const auto tile = static_cast<int>(rest % summary.tiles);
  rest /= summary.tiles;
  const auto set = static_cast<int>(rest % summary.sets);
  const auto batch = static_cast<int>(rest / summary.sets);

  const auto group = static_cast<int>(schedule.group.divisor);
  const int heads = args.mask.head == 0 ? 1 : group;
  int first = 0, last = 0;  // queries; where the mask has one for all, that one
  if (args.mask.row != 0) {
    const int row = tile * schedule.tile_q;
    first = schedule.query(row);
    last = schedule.query(min(row + schedule.tile_q, schedule.rows) - 1);
  }
  const int first_key = block * schedule.tile_kv;
  const int keys = min(schedule.tile_kv, args.s_kv - first_key);
  const auto* const mask = static_cast<const unsigned char*>(args.mask.data) +
                           batch * args.mask.batch + first_key * args.mask.col;

  const int begin = first + static_cast<int>(threadIdx.x) % 32 / kLanesOfRow;
  bool seen = false;
  for (int head = set * group; head < set * group + heads && !seen; ++head) {
    for (int at = 0; at <= last - first && !seen; at += kRowsAtOnce) {
      uint32_t of_lane = 0;
#pragma unroll
      for (int row = 0; row < kRowsAtOnce; row += kRowsOfWarp) {
        const int i = begin + at + row;
        if (i > last) continue;
        const unsigned char* const from = mask + head * args.mask.head + i * args.mask.row;
        of_lane |= args.unit == 16  ? seen_of_row<uint4>(from, keys)
                   : args.unit == 4 ? seen_of_row<uint32_t>(from, keys)
                                    : seen_of_row(from, keys, args.mask.col);
      }
      seen = __any_sync(0xffffffffu, of_lane != 0);
    }
  }
  if (threadIdx.x % 32 == 0) summary.visible[number] = seen ? 1 : 0;
}

}  // namespace qkv::kernels
