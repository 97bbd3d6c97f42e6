// What asynchronous operations (bulk copies, wgmma) do to shared memory, for the race check.
//
// PTX ISA 9.0 sections 8.6 (proxies) and 9.7.9.25.2 (async proxy). Such an operation reads
// and writes in the asynchronous proxy, at any time between its issue and its completion:
//  - It is ordered after an earlier write of the generic proxy when a fence.proxy.async stands
//    between them: when the write is in what the issuing thread knows `proxied`. It is ordered
//    after an earlier read when the issuing thread knows of it.
//  - What it accesses belongs to an agent: the mbarrier that it completes on, the warpgroup that
//    waits for it, or the thread that waits for its bulk group. Whoever learns the agent's clock
//    (from the mbarrier's phase, from wait_group) knows the accesses that were finished then.
//  - Until it is finished, a generic access to bytes that it writes is a race, and so is a generic
//    write to bytes that it reads; so are two operations that conflict.
//
// An operation goes: begin_operation; async_read and async_write for every range, at issue (a
// wgmma: foresee_reads, then look_again and remember_reads when all its warps have issued it);
// finish_write for ranges that have arrived, finish_reads; end_operation when nothing is under way.
// What it read stays remembered until something that is ordered after it has written there.
#pragma once

#include <array>
#include <vector>

#include "common/types.h"

namespace vgpu {

using AsyncId = u32;

// Keys of agents beside the offsets of mbarriers.
inline constexpr u32 kWarpgroupAgent = 0x80000000u;

struct ByteRange {
  u32 offset = 0, bytes = 0;
};

// What these operations read is whole units of 16 bytes: bit i is unit i of a block of 16 units.
struct UnitBlock {
  static constexpr u32 kUnit = 16, kBytes = 256;
  u32 block = 0;
  u32 units = 0;
  bool operator==(const UnitBlock&) const = default;
};
// The units of `block` that [begin, end) touches, and those that it covers.
inline u32 units_touched(u32 block, u32 begin, u32 end) {
  const u32 base = block * UnitBlock::kBytes;
  const u32 first = begin <= base ? 0 : (begin - base) / UnitBlock::kUnit;
  const u32 last = end >= base + UnitBlock::kBytes ? 16 : (end - base + 15) / UnitBlock::kUnit;
  return (1u << last) - (1u << first);
}
inline u32 units_covered(u32 block, u32 begin, u32 end) {
  const u32 base = block * UnitBlock::kBytes;
  const u32 first = begin <= base ? 0 : (begin - base + 15) / UnitBlock::kUnit;
  const u32 last = end >= base + UnitBlock::kBytes ? 16 : (end - base) / UnitBlock::kUnit;
  return last <= first ? 0 : (1u << last) - (1u << first);
}

// Stores of 128 threads that an operation comes after, though its issuing thread knows nothing of
// them: those below a clock for each thread.
struct ShownStores {
  u32 first_thread = 0;
  std::array<u32, 128> below{};
  u32 issued = 0;  // of the issuing thread's warp: what it writes from this clock on is too late
};

struct AsyncOperation {
  bool used = false;
  bool under_way = false;  // its reads
  bool ended = false;
  u32 thread = 0, agent = 0, site = 0;
  u32 clock = 0;  // of its finished reads
  std::vector<UnitBlock> reads;
  u32 low = 0, high = 0;  // the first and the last block
};

}  // namespace vgpu
