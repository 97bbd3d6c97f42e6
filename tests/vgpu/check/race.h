// Shared-memory races: two accesses to the same bytes by different threads, one of them a write,
// with nothing that orders them.
//
// Every thread has a clock that grows when the thread releases (arrives at a barrier). An access
// is remembered with its thread and clock; a later access by another thread is ordered after it
// when that thread has learned a larger clock of the first one:
//  - through a barrier of the whole CTA: everything below `base_` is known to all,
//  - through bar.warp.sync of the whole warp: everything below `warp_base_[warp]` within the warp,
//  - through anything else: rows_[thread][other], allocated when first needed. Among these are
//  flags:
//    what a thread had done when it released (PTX ISA 9.0 section 8.8: a release, or a fence and
//    then a strong write) goes to whoever acquires (an acquire, or a strong read and then a fence).
// Clocks never go back, not even from one CTA to the next, so old records need no clearing.
#pragma once

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/types.h"

namespace vgpu {

struct RaceReport {
  bool found = false;
  u32 other_thread = 0;
  bool other_wrote = false;
  u32 other_line = 0;
};

class RaceTracker {
 public:
  void start(u32 shared_bytes, u32 granule, u32 threads);

  // Both check and remember. `strong`: atomic or volatile, which never races with its like.
  RaceReport read(u32 thread, u32 offset, u32 bytes, bool strong, u32 line);
  RaceReport write(u32 thread, u32 offset, u32 bytes, bool strong, u32 line);
  // An asynchronous write by `thread` is under way until finish_async.
  RaceReport begin_async(u32 thread, u32 offset, u32 bytes, u32 line);
  // The write is done. What it wrote is known to those who know `clock` of the thread, by default
  // the present one.
  void finish_async(u32 thread, u32 offset, u32 bytes, u32 clock = 0);

  void barrier_all();
  // A thread that arrives without waiting: what it did until now goes into `released`, what it does
  // from now on does not.
  void release(u32 thread, std::vector<u32>& released);
  // `waiters` learn what they all had done, and what was released.
  void barrier_some(const std::vector<u32>& waiters, const std::vector<u32>& released);
  void warp_sync(u32 warp, u32 mask);

  // What the thread did until now is before the returned clock, what it does next is not.
  u32 tick(u32 thread) { return std::exchange(clocks_[thread], ++top_); }
  // Adds to `released` that the thread's accesses up to `clock` are known.
  void release_until(u32 thread, u32 clock, std::vector<u32>& released);
  // The thread learns what was released.
  void acquire(u32 thread, const std::vector<u32>& released);

  // Flags in shared memory: a strong write or read of `bytes` at `offset`, and fences.
  void fence(u32 thread);
  void flag_write(u32 thread, u32 offset, u32 bytes, bool releases, bool atomic);
  void flag_read(u32 thread, u32 offset, u32 bytes, bool acquires);

 private:
  // Eight bytes, since there is one per access remembered: the clock, the thread (below 1024), two
  // flags and the PTX line modulo 2^20.
  struct Access {
    u32 clock = 0;  // 0: nobody yet
    u32 rest = 0;
    u32 thread() const { return rest & 1023; }
    bool strong() const { return (rest & 1024) != 0; }
    bool async() const { return (rest & 2048) != 0; }
    u32 line() const { return rest >> 12; }
    void set_async(bool on) { rest = on ? rest | 2048u : rest & ~2048u; }
  };
  static Access make(u32 thread, u32 clock, bool strong, u32 line) {
    return {clock, thread | (strong ? 1024u : 0u) | line << 12};
  }
  struct Cell {
    Access write;
    Access reads[3];  // latest; latest of another lane of its warp; latest of another warp
  };

  // Most accesses: before the CTA's latest barrier.
  bool known_to_all(const Access& earlier) const {
    return earlier.clock < base_ && !earlier.async();
  }
  bool ordered(const Access& earlier, u32 thread) const;
  bool conflict(const Access& earlier, u32 thread, bool strong, RaceReport& report,
                bool wrote) const;
  void remember_read(Cell& cell, const Access& access) const;
  void ensure_rows();

  std::vector<Cell> cells_;
  std::vector<u32> clocks_;
  std::vector<u32> warp_base_;
  std::vector<u32> rows_;                            // threads x threads, empty until needed
  std::vector<u32> fenced_;                          // clock of each thread's latest fence
  std::unordered_map<u32, std::vector<u32>> flags_;  // word of shared memory -> released with it
  std::unordered_map<u32, std::vector<u32>> seen_;   // thread -> read, to be known after a fence
  u32 threads_ = 0;
  u32 granule_ = 4;
  u32 base_ = 1;
  u32 top_ = 1;  // larger than or equal to every clock
};

}  // namespace vgpu
