// Races in global memory: two accesses to the same bytes by different threads, one of them a write,
// with nothing that orders them. PTX ISA 9.0 chapter 8 (memory consistency model).
//
// Within a cluster the RaceTracker says what is ordered. Between clusters only this does: a release
// (section 8.8: st.release, or a fence and then a strong write) of gpu scope, whose word an acquire
// (ld.acquire, or a strong read and then a fence) of gpu scope reads. What a release passes on is a
// set of bounds: per cluster, the clock of each of its threads below which accesses are known.
//
// What was accessed is remembered per launch, by blocks of 512 bytes that some CTA has touched: a
// block that no CTA of the launch has written keeps the latest reader of each 32 bytes, one that
// was written the latest write and two reads of each granule (of four bytes, less where the kernel
// accesses less). See README.md, "Global memory between CTAs".
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "check/race.h"
#include "check/scope.h"
#include "common/types.h"

namespace vgpu {

struct Allocation;

// What is known of the threads of one cluster: by thread, and behind the threads by agent of the
// asynchronous proxy. `proxied`: behind a fence.proxy.async for global memory, too.
struct Bounds {
  std::vector<u32> plain, proxied;
};
struct ClusterBounds {
  u32 cluster = 0;
  u32 cta = 0;          // rank of the CTA that released them
  Scope scope = kWeak;  // of the release
  std::shared_ptr<const Bounds> bounds;
};
using KnownSet = std::vector<ClusterBounds>;  // by cluster, then scope
using KnownSetPtr = std::shared_ptr<const KnownSet>;
KnownSetPtr merged(const KnownSetPtr& a, const KnownSetPtr& b);

// What the threads of one cluster know of others. Threads are the cluster's.
class ClusterOrder {
 public:
  void start(RaceTracker& race, u32 cluster, u32 threads_per_cta);
  u32 cluster() const { return cluster_; }
  RaceTracker& race() const { return *race_; }

  void fence(u32 thread, Scope scope, bool releases, bool acquires);
  void proxy_fence(u32 thread);
  // What a strong write of the thread passes on, nullptr for nothing.
  KnownSetPtr released(u32 thread, bool releases, Scope scope);
  // A strong read has found what was released.
  void acquire(u32 thread, const KnownSetPtr& set, bool acquires, Scope scope);
  // Whether the thread comes after what `who` of another cluster did at `clock`.
  bool knows(u32 cluster, u32 who, u32 clock, u32 thread, bool proxied) const;
  // The same of its own cluster, by a proxy fence in between.
  bool shown(u32 who, u32 clock, u32 thread) const;
  // A race has been told of: what other clusters have done below these clocks, one for each, counts
  // as known to all threads, so that one missing fence is one finding; `proxied`: as shown by a
  // proxy fence, too.
  void forgive(const std::vector<u32>& clocks, bool proxied);
  // The same of a proxy fence that is missing within the cluster.
  void forgive_own(u32 thread, u32 clock);
  u32 rank(u32 thread) const { return thread / threads_per_cta_; }

  // What its threads have done, to see that they wait for nothing any more.
  u64 writes = 0, vain_reads = 0;

  // A thread that reads the same word again and again.
  struct Spin {
    u64 address = 0, value = 0;
    u32 site = ~0u;
    u32 times = 0;
    u32 writer = 0, clock = 0;  // of the word, when it was read last
    u32 started = 0;            // clusters of the launch then
  };
  Spin& spin(u32 thread) { return spins_[thread]; }

 private:
  struct Fence {
    KnownClocks known;
    bool any = false;
  };
  struct Learned {
    u32 thread = 0, clock = 0;
    KnownSetPtr set;
    Scope scope = kWeak;
  };
  struct ProxyFence {
    u32 thread = 0, clock = 0;
    KnownClocks known;
    KnownSetPtr others;
  };
  bool after(u32 other, u32 clock, u32 thread) const {
    return race_->ordered_after(other, clock, thread);
  }
  bool covers(const KnownSet& set, Scope scope, u32 cluster, u32 who, u32 clock,
              bool proxied) const;
  void learn(u32 thread, const KnownSetPtr& set, Scope scope);
  void fold_learned();
  KnownSetPtr others(u32 thread) const;
  void add_bounds(u32 thread, const KnownClocks& known, Scope scope, bool fences_of_others,
                  KnownSet& out);

  RaceTracker* race_ = nullptr;
  u32 cluster_ = 0, threads_per_cta_ = 1;
  std::vector<Fence> fences_, narrow_fences_;  // by thread: of gpu scope, of less and later
  std::vector<u32> fenced_;                    // by thread: its own clock at its fence of gpu scope
  u32 wide_fences_ = 0;
  std::vector<Learned> learned_, seen_;           // seen: what a fence will make known
  std::vector<u32> forgiven_, forgiven_proxied_;  // by cluster
  std::vector<ProxyFence> proxy_fences_;
  std::vector<Spin> spins_;
};

struct GlobalAccess {
  u32 cluster = 0;  // index + 1; 0: nobody
  u32 clock = 0;    // or the number of the asynchronous operation
  u16 who = 0;      // thread of the cluster
  u16 site = 0;
  Scope scope = kWeak;
  u8 words = 0;  // of 32 bytes, where no granules are kept
  bool asynchronous = false;
  bool several = false;  // lanes of the same warp, at the same clock
};
static_assert(sizeof(GlobalAccess) == 16);

struct GlobalReport {
  bool found = false;
  bool wrote = false;      // the other
  bool proxy = false;      // ordered, but a proxy fence is missing
  bool under_way = false;  // the other is asynchronous and not complete
  GlobalAccess other;
  u32 thread = 0;  // that made the later access
  u64 place = 0;
};

// The memory of one launch.
class GlobalRaces {
 public:
  // `parallel`: clusters run on several cores at the same time.
  void start(u64* table, u32 tag, u32 granule, bool parallel);

  struct Access {
    ClusterOrder& order;
    u32 thread = 0, site = 0;
    u32 step = 0;  // not 0: each `step` bytes are accessed by the next thread, at the same clock
    Scope scope = kWeak;
    bool write = false;
    bool asynchronous = false;
    u32 operation = 0;
    bool any_proxy = false;  // asynchronous, but no fence.proxy.async is asked for
  };
  // Checks and remembers. `place`: see Allocation.
  GlobalReport access(const Access& access, u64 place, u32 bytes);
  // The write that the byte has now.
  GlobalAccess latest_write(u64 place);

  // Flags: words that strong writes have released something with.
  void flag_write(const Access& access, u64 place, u32 bytes, bool releases, bool atomic);
  void flag_read(const Access& access, u64 place, u32 bytes, bool acquires);

  // Whether a race between these two instructions is new: it is told of once, whichever came first.
  bool is_new(u32 site, u32 other_site);

  // By cluster, above the clocks that it has used until now.
  std::vector<u32> clocks_now();
  void cluster_starts(const ClusterOrder& order);

  // Asynchronous operations.
  u32 begin_operation();
  void end_operation(u32 operation, u32 agent, u32 clock);

 private:
  static constexpr u32 kBlock = 512, kSector = 32;
  struct Cell {
    GlobalAccess write, reads[2];
  };
  struct Block {
    GlobalAccess reads[kBlock / kSector];
    std::unique_ptr<Cell[]> cells;
  };
  struct Operation {
    u32 agent = 0, clock = 0;  // 0: under way
  };
  Block& block(u64 number);
  void read_sectors(const Access& access, Block& block, u32 begin, u32 end);
  void make_cells(Block& block) const;
  bool conflict(const Access& access, const GlobalAccess& other, bool wrote,
                GlobalReport& report) const;
  bool ordered(const Access& access, const GlobalAccess& other, bool& under_way,
               bool& proxied) const;
  GlobalAccess record(const Access& access) const;
  std::mutex& lock_of(u64 number) { return locks_[number % locks_.size()]; }

  u64* table_ = nullptr;  // by number of the block: the launch's tag and an index
  u32 tag_ = 0, granule_ = 4;
  bool parallel_ = false;
  std::array<std::mutex, 64> locks_;
  mutable std::mutex pool_mutex_;
  static constexpr u32 kChunk = 256;
  std::vector<std::unique_ptr<Block[]>> chunks_;
  u32 blocks_ = 0;
  // What a word passes on. A strong write of a thread that has released there before passes on what
  // it did then (section 8.8, the second form of a release pattern): the latest such threads.
  struct Flag {
    struct Release {
      u32 cluster = 0, thread = 0;
      KnownSetPtr set;
    };
    KnownSetPtr set;
    std::vector<Release> releases;
  };
  void remember_release(Flag& flag, const Access& access, const KnownSetPtr& set) const;
  std::unordered_map<u64, Flag> flags_;  // by word
  std::vector<Operation> operations_{1};
  std::unordered_map<const RaceTracker*, u32> running_;  // the cluster that each tracker has now
  std::vector<bool> started_;                            // by cluster
  std::set<std::pair<u32, u32>> told_;
};

}  // namespace vgpu
