// Shared-memory races: two accesses to the same bytes by different threads, one of them a write,
// with nothing that orders them.
//
// Every thread has a clock that grows when the thread releases (arrives at a barrier). An access
// is remembered with its thread and clock; a later access by another thread is ordered after it
// when that thread has learned a larger clock of the first one:
//  - through a barrier of the whole CTA: everything below `base_` is known to all,
//  - through bar.warp.sync of the whole warp: everything below `warp_base_[warp]` within the warp,
//  - through anything else: rows_[thread][other], allocated when first needed, and beside it a row
//    of its warp with what all its threads have learned together. Among these are flags:
//    what a thread had done when it released (PTX ISA 9.0 section 8.8: a release, or a fence and
//    then a strong write) goes to whoever acquires (an acquire, or a strong read and then a fence).
// Clocks never go back, not even from one CTA to the next, so old records need no clearing.
//
// The CTAs of a cluster share one tracker: its threads and bytes are those of all its CTAs, one
// after the other. CtaRace is a CTA's view of it.
//
// What bulk copies and wgmma access is the matter of check/proxy.h.
#pragma once

#include <array>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "check/clocks.h"
#include "check/proxy.h"
#include "common/types.h"

namespace vgpu {

struct RaceReport {
  bool found = false;
  u32 other = 0;  // thread, or from the number of threads on an agent of the asynchronous proxy
  bool other_wrote = false;
  bool proxy = false;  // ordered, but a proxy fence is missing
  u32 other_site = 0;  // of the instruction, see Instr::site
};

// What a thread knew at some moment. Most of it is a few numbers: everything below `base` of all
// threads, below `warp_base` of its warp's, below `self_clock` of its own.
struct KnownClocks {
  u32 base = 0, warp = ~0u, warp_base = 0, self = ~0u, self_clock = 0, threads = 0;
  std::vector<u32> agents;  // of the asynchronous proxy
  std::vector<u32> row;     // and what it learned beside that, by thread and agent

  bool covers(u32 who, u32 clock) const {
    if (who < threads ? clock < base || (who / kLanes == warp && clock < warp_base) ||
                            (who == self && clock < self_clock)
                      : who - threads < agents.size() && clock < agents[who - threads])
      return true;
    return who < row.size() && clock < row[who];
  }
  // By who, the clock below which it covers.
  void expand(u32 width, std::vector<u32>& out) const;
};

class RaceTracker {
 public:
  static constexpr u32 kMaxAgents = 1u << 14;  // threads, and agents of the asynchronous proxy

  // `agents` of the asynchronous proxy; 0 when the kernel uses no asynchronous operation.
  void start(u32 shared_bytes, u32 granule, u32 threads, u32 agents = 0);
  u32 threads() const { return threads_; }
  u32 clock(u32 thread) const { return clocks_[thread]; }
  u32 width() const { return width_; }
  u32 top() const { return top_; }
  u32 known_to_all() const { return base_; }  // all below
  // Whether what `thread` does now comes after what `other`, a thread or an agent, did at `clock`.
  bool ordered_after(u32 other, u32 clock, u32 thread) const {
    Access access = make(other, clock, false, 0);
    if (other >= threads_) access.rest |= kByAgent;
    return ordered(access, thread);
  }
  KnownClocks known_by(u32 thread) const;

  // Both check and remember. `strong`: atomic or volatile, which never races with its like.
  RaceReport read(u32 thread, u32 offset, u32 bytes, bool strong, u32 site);
  RaceReport write(u32 thread, u32 offset, u32 bytes, bool strong, u32 site);
  // cp.async: a write by `thread` in the generic proxy is under way until finish_async.
  RaceReport begin_async(u32 thread, u32 offset, u32 bytes, u32 site);
  // The write is done. What it wrote is known to those who know `clock` of the thread, by default
  // the present one.
  void finish_async(u32 thread, u32 offset, u32 bytes, u32 clock = 0);

  void barrier_all();
  // A thread that arrives without waiting: what it did until now goes into `released`, what it does
  // from now on does not.
  void release(u32 thread, Clocks& released);
  // A relaxed arrival: what it did until its latest fence goes into `released`.
  void release_fenced(u32 thread, Clocks& released);
  // `waiters` learn what they all had done, and what was released.
  void barrier_some(const std::vector<u32>& waiters, const Clocks& released);
  void warp_sync(u32 warp, u32 mask);

  // What the thread did until now is before the returned clock, what it does next is not.
  u32 tick(u32 thread) { return std::exchange(clocks_[thread], ++top_); }
  // Adds to `released` that the thread's accesses up to `clock` are known.
  void release_until(u32 thread, u32 clock, Clocks& released);
  // The thread learns what was released.
  void acquire(u32 thread, const Clocks& released) { learn(thread, released); }
  // All threads of its warp do.
  void acquire_together(u32 thread, const Clocks& released) { learn(warp_row(thread), released); }
  // It will, by its next fence.
  void observe(u32 thread, const Clocks& released) { seen_[thread].join(released); }

  // Flags in shared memory: a strong write or read of `bytes` at `offset`, and fences.
  void fence(u32 thread);
  void flag_write(u32 thread, u32 offset, u32 bytes, bool releases, bool atomic);
  void flag_read(u32 thread, u32 offset, u32 bytes, bool acquires);

  // The asynchronous proxy: see check/proxy.h.
  u32 agent(u64 key);
  void proxy_fence(u32 thread);
  u32 proxy_fences() const { return proxy_fences_; }
  // Below which clock the thread has shown its own accesses to the asynchronous proxy.
  u32 own_proxied(u32 thread) const;
  // What the warp's threads did until now is before the returned clock.
  u32 tick_warp(u32 warp);
  // A fault has been told of: what all threads did until now counts as shown by these threads, so
  // that one missing fence is one finding.
  void forgive(u32 first_thread, u32 count = 1);
  bool proxied(u32 thread, u32 other, u32 clock) const;
  AsyncId begin_operation(u32 thread, u32 agent, u32 site);
  RaceReport async_read(AsyncId id, u32 offset, u32 bytes);
  // A wgmma: its reads are under way when all its warps have issued it. Before that, whether what
  // the issuing thread knows is enough; then with what all warps have shown, and what they have
  // written meanwhile, if anything was.
  RaceReport foresee_reads(AsyncId id, const std::vector<UnitBlock>& blocks, u32 first_block);
  RaceReport look_again(AsyncId id, const std::vector<UnitBlock>& blocks, u32 first_block,
                        const ShownStores& shown);
  void remember_reads(AsyncId id, const std::vector<UnitBlock>& blocks, u32 first_block);
  u32 writes() const { return writes_made_; }
  RaceReport async_write(AsyncId id, u32 offset, u32 bytes);
  void finish_write(AsyncId id, u32 offset, u32 bytes);
  void finish_reads(AsyncId id);
  void end_operation(AsyncId id);
  void release_agent(u32 agent, Clocks& released);
  // The threads of its warp learn what the agent has done.
  void learn_agent(u32 thread, u32 agent);

 private:
  static constexpr u32 kUnderWay = ~0u;  // the clock of an asynchronous access
  static constexpr u32 kByAgent = 0x8000;
  static constexpr u32 kBlock = UnitBlock::kBytes;

  // Eight bytes, since there is one per access remembered: the clock, who (below 2^14), two flags
  // and the instruction's site modulo 2^16.
  struct Access {
    u32 clock = 0;  // 0: nobody yet
    u32 rest = 0;
    u32 who() const { return rest & (kMaxAgents - 1); }
    bool strong() const { return (rest & 0x4000) != 0; }
    bool by_agent() const { return (rest & kByAgent) != 0; }
    u32 site() const { return rest >> 16; }
    bool operator==(const Access&) const = default;
  };
  static Access make(u32 who, u32 clock, bool strong, u32 site) {
    return {clock, who | (strong ? 0x4000u : 0u) | site << 16};
  }
  // The latest; the latest of another lane of its warp; the latest of another warp.
  using Reads = std::array<Access, 3>;
  enum class Written : u8 { kUnknown, kAlike, kMixed };

  // Most accesses: before the CTA's latest barrier.
  bool known_to_all(const Access& earlier) const {
    return earlier.clock < base_ && !earlier.by_agent();
  }
  bool ordered(const Access& earlier, u32 thread) const;
  bool conflict(const Access& earlier, u32 thread, bool strong, RaceReport& report,
                bool wrote) const;
  bool conflict_with_write(const Access& earlier, u32 thread, RaceReport& report) const;
  bool conflict_with_reads(u32 thread, u32 offset, u32 bytes, RaceReport& report);
  bool conflict_with(const Reads& reads, u32 thread, bool strong, RaceReport& report) const;
  void remember_read(Reads& reads, const Access& access) const;
  bool written_alike(u32 block);
  void check_read(const AsyncOperation& operation, const UnitBlock& read, Access& before,
                  RaceReport& report, const ShownStores* shown = nullptr);
  void remember_read(AsyncOperation& operation, const UnitBlock& read);
  void ensure_rows();
  // The row of a thread, or from the number of threads on of a warp, to be written to. A row is
  // zeros, and not read, until then.
  u32* row(u32 who);
  u32* proxied_row(u32 who) { return row(who) + proxied_at_; }
  bool learned(u32 who) const { return has_rows_ && learned_[who] != 0; }
  const u32* known(u32 who) const { return &rows_[size_t{who} * row_size_]; }
  const u32* shown(u32 who) const { return known(who) + proxied_at_; }
  bool has_agents() const { return width_ != threads_; }
  u32 warp_row(u32 thread) const { return threads_ + thread / kLanes; }
  void learn(u32 who, const Clocks& released);
  void join_row(u32 who, Clocks& to) const;
  // Whether a row of the thread, or of its warp, has a larger clock at `i`.
  bool knows(u32 thread, size_t i, u32 clock) const {
    return (learned(thread) && known(thread)[i] > clock) ||
           (learned(warp_row(thread)) && known(warp_row(thread))[i] > clock);
  }
  void forget_known_reads();
  void forget(AsyncOperation& operation);

  // By granule.
  std::vector<Access> writes_;
  std::vector<Reads> reads_;
  std::vector<Written> written_;  // by block: whether its granules have the same latest write
  std::vector<u32> clocks_;
  std::vector<u32> warp_base_;
  std::vector<u32> rows_;                  // (threads, warps) x (clocks, clocks proxied)
  std::vector<u8> learned_;                // the rows that have been written to
  bool has_rows_ = false;                  // since the CTA's latest barrier
  std::vector<u32> fenced_;                // clock of each thread's latest fence
  std::unordered_map<u32, Clocks> flags_;  // word of shared memory -> released with it
  std::unordered_map<u32, Clocks> seen_;   // thread -> read, to be known after a fence
  u32 threads_ = 0;
  u32 width_ = 0;  // of a row: threads and agents
  u32 row_size_ = 0, proxied_at_ = 0;
  u32 granule_ = 4;
  u32 base_ = 1;
  u32 top_ = 1;  // larger than or equal to every clock

  // Empty when the kernel has no asynchronous operation.
  std::vector<u32> proxied_base_;  // of each agent, what all know proxied
  std::vector<u32> agent_base_;    // of each agent beyond the threads, what all know
  std::unordered_map<u64, u32> agents_;
  std::vector<AsyncOperation> operations_;
  std::vector<AsyncId> free_operations_;
  std::vector<u16> reading_;  // operations that read or have read in each block
  u32 reads_kept_ = 0;        // operations that have finished reads
  u32 proxy_fences_ = 0;      // and barriers of all, that may show as much
  u32 writes_made_ = 0;
};

// One CTA's part of its cluster's tracker: threads and offsets are the CTA's own. An offset into a
// peer's memory is relative too, modulo 2^32.
class CtaRace {
 public:
  void start(RaceTracker& tracker, u32 first_thread, u32 first_byte, bool alone, u32 threads) {
    tracker_ = &tracker;
    thread0_ = first_thread;
    byte0_ = first_byte;
    alone_ = alone;
    threads_ = threads;
  }
  RaceTracker& tracker() const { return *tracker_; }
  u32 thread(u32 own) const { return thread0_ + own; }
  u32 byte(u32 own) const { return byte0_ + own; }

  RaceReport read(u32 thread, u32 offset, u32 bytes, bool strong, u32 site) {
    return tracker_->read(thread0_ + thread, byte0_ + offset, bytes, strong, site);
  }
  RaceReport write(u32 thread, u32 offset, u32 bytes, bool strong, u32 site) {
    return tracker_->write(thread0_ + thread, byte0_ + offset, bytes, strong, site);
  }
  RaceReport begin_async(u32 thread, u32 offset, u32 bytes, u32 site) {
    return tracker_->begin_async(thread0_ + thread, byte0_ + offset, bytes, site);
  }
  void finish_async(u32 thread, u32 offset, u32 bytes, u32 clock = 0) {
    tracker_->finish_async(thread0_ + thread, byte0_ + offset, bytes, clock);
  }
  void barrier_all();
  void barrier_some(std::vector<u32> waiters, const Clocks& released);
  void release(u32 thread, Clocks& released) { tracker_->release(thread0_ + thread, released); }
  void release_fenced(u32 thread, Clocks& released) {
    tracker_->release_fenced(thread0_ + thread, released);
  }
  void observe(u32 thread, const Clocks& released) {
    tracker_->observe(thread0_ + thread, released);
  }
  void warp_sync(u32 warp, u32 mask) { tracker_->warp_sync(thread0_ / kLanes + warp, mask); }
  u32 tick(u32 thread) { return tracker_->tick(thread0_ + thread); }
  void release_until(u32 thread, u32 clock, Clocks& released) {
    tracker_->release_until(thread0_ + thread, clock, released);
  }
  void acquire(u32 thread, const Clocks& released) {
    tracker_->acquire(thread0_ + thread, released);
  }
  void acquire_together(u32 thread, const Clocks& released) {
    tracker_->acquire_together(thread0_ + thread, released);
  }
  void fence(u32 thread) { tracker_->fence(thread0_ + thread); }
  void flag_write(u32 thread, u32 offset, u32 bytes, bool releases, bool atomic) {
    tracker_->flag_write(thread0_ + thread, byte0_ + offset, bytes, releases, atomic);
  }
  void flag_read(u32 thread, u32 offset, u32 bytes, bool acquires) {
    tracker_->flag_read(thread0_ + thread, byte0_ + offset, bytes, acquires);
  }

  // The asynchronous proxy.
  void proxy_fence(u32 thread) { tracker_->proxy_fence(thread0_ + thread); }
  // The agent of something in this CTA: an mbarrier's offset, or kWarpgroupAgent and its number.
  u32 agent(u32 key) { return tracker_->agent(u64{byte0_} << 32 | key); }
  AsyncId begin_operation(u32 thread, u32 agent, u32 site) {
    return tracker_->begin_operation(thread0_ + thread, agent, site);
  }
  RaceReport async_read(AsyncId id, u32 offset, u32 bytes) {
    return tracker_->async_read(id, byte0_ + offset, bytes);
  }
  RaceReport foresee_reads(AsyncId id, const std::vector<UnitBlock>& blocks) {
    return tracker_->foresee_reads(id, blocks, byte0_ / UnitBlock::kBytes);
  }
  RaceReport look_again(AsyncId id, const std::vector<UnitBlock>& blocks,
                        const ShownStores& shown) {
    return tracker_->look_again(id, blocks, byte0_ / UnitBlock::kBytes, shown);
  }
  void remember_reads(AsyncId id, const std::vector<UnitBlock>& blocks) {
    tracker_->remember_reads(id, blocks, byte0_ / UnitBlock::kBytes);
  }
  RaceReport async_write(AsyncId id, u32 offset, u32 bytes) {
    return tracker_->async_write(id, byte0_ + offset, bytes);
  }
  void finish_write(AsyncId id, u32 offset, u32 bytes) {
    tracker_->finish_write(id, byte0_ + offset, bytes);
  }
  void finish_reads(AsyncId id) { tracker_->finish_reads(id); }
  void end_operation(AsyncId id) { tracker_->end_operation(id); }
  void learn_agent(u32 thread, u32 agent) { tracker_->learn_agent(thread0_ + thread, agent); }

 private:
  RaceTracker* tracker_ = nullptr;
  u32 thread0_ = 0, byte0_ = 0;
  u32 threads_ = 0;
  bool alone_ = true;
};

}  // namespace vgpu
