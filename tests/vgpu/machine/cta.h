// One cooperative thread array: its shared memory, barriers and warps.
//
// Invariants:
//  - Warps run one at a time, in seeded order, each for a seeded number of instructions or until
//    all its lanes wait. Nothing else in the machine runs at the same time within a CTA.
//  - A named barrier's waiting lanes are exactly the groups in state kBarrier with its number.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "async/cp_async.h"
#include "async/mbarrier.h"
#include "async/wgmma.h"
#include "check/race.h"
#include "count/counters.h"
#include "machine/register_pool.h"
#include "machine/warp.h"

namespace vgpu {

class Cluster;
class Launch;

// What Group::barrier says of a group that waits for its cluster's barrier.
inline constexpr u32 kClusterBarrier = ~0u;

// PTX ISA 9.0 section 9.7.13.1: a CTA has 16 barriers.
struct NamedBarrier {
  u32 arrived = 0;   // threads
  u32 expected = 0;  // 0: every thread of the CTA that has not exited
  bool active = false;
  bool all_pred = true, any_pred = false;
  u32 count_pred = 0;
  std::vector<u32> participants;  // threads, for the race check
  std::vector<u32> waiters;       // those that wait, not only arrive
  Clocks released;                // of those that only arrive
};

class Cta {
 public:
  enum class Status : u8 { kDone, kRunning, kBlocked };

  // Shared addresses below this belong to the system, as on devices since sm_80.
  static constexpr u32 kSharedBase = 1024;
  // Shared addresses of the CTA have its rank in the cluster in bits 24 and up: so an H100's do.
  static constexpr u64 kWindowBytes = 1u << 24;
  u64 shared_window() const { return rank * kWindowBytes; }

  Cta(Cluster& cluster, u32 rank, std::vector<PcCount>& counts);

  void start();
  // Runs up to about `budget` warp instructions. Throws Fault.
  Status run(u64 budget);
  bool ready() const;
  // With everything blocked: forces divergent aligned instructions on; lets waits time out; reports
  // a deadlock. The first two return whether there was something to do.
  bool force_aligned();
  bool time_out();
  void deadlock(const std::string& who_waits);
  std::string who_waits() const;
  // Lanes that wait for the mbarrier at this offset, or kClusterBarrier, look again.
  void wake_waiting(u32 barrier);

  // Barrier arrival of `mask` lanes of a warp; true when this completed the barrier.
  void arrive(Warp& warp, const Instr& in, u32 mask, u32 index, u32 expected, bool waits,
              u32 pred_mask);
  // Threads exited, `arrived` of them at the cluster's barrier.
  void lanes_exited(u32 count, u32 arrived);

  u32 thread_index(const Warp& warp, int lane) const { return warp.index() * kLanes + lane; }
  void thread_coords(const Warp& warp, int lane, u32 (&out)[3]) const;

  Cluster& cluster;
  Launch& launch;
  const Program& program;
  std::vector<PcCount>& counts;
  const u32 rank;  // in the cluster
  u64 linear = 0;
  u32 ctaid[3] = {0, 0, 0}, cluster_ctaid[3] = {0, 0, 0};
  u32 threads = 0;
  u32 live = 0;                   // threads that have not exited
  u32 shared_bytes = 0;           // static and dynamic, from kSharedBase on
  u32 shared_base = kSharedBase;  // 0 when the kernel uses the reserved part
  std::vector<u8> shared;
  std::vector<u8> shared_defined;  // 0xff per defined byte
  CtaRace race;
  CpAsync cp_async;
  MBarriers mbarriers;
  Wgmma wgmma;
  RegisterPool registers;
  std::vector<std::unique_ptr<Warp>> warps;
  Random random{0};

  // Result of the barrier that completed last, for bar.red.
  struct Reduction {
    u32 count = 0;
    bool all = false, any = false;
  };
  const Reduction& reduction() const { return red_; }

 private:
  void complete(u32 index);

  std::array<NamedBarrier, 16> barriers_;
  Reduction red_;
};

}  // namespace vgpu
