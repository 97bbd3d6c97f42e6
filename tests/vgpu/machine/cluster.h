// A cluster: CTAs that run at the same time and reach each other's shared memory. A launch without
// clusters has clusters of one.
//
// PTX ISA 9.0 section 2.2.2. Invariants:
//  - All CTAs of a cluster are resident together and take turns in seeded order.
//  - A shared address has the rank of its CTA in bits 24 and up, for every CTA of the cluster and
//    the CTA itself alike (Cta::kWindowBytes). An H100 does so, and kernels flip those bits to find
//    the CTA beside them. ld.shared::cta and the like take an address of rank 0 as the CTA's own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/bulk.h"
#include "check/global_race.h"
#include "check/grid_order.h"
#include "check/race.h"
#include "machine/cta.h"

namespace vgpu {

class Launch;

class Cluster {
 public:
  Cluster(Launch& launch, std::vector<PcCount>& counts);

  void start(u64 index);
  // Runs up to about `budget` warp instructions. Throws Fault.
  Cta::Status run(u64 budget);
  // With everything blocked: lets time pass, or reports a deadlock. `alone`: no other cluster runs
  // that could change global memory meanwhile.
  void resolve_block(bool alone);

  // Whether its latest turn was all waiting: threads that sleep, or read the same words of global
  // memory again and again.
  bool only_waited();
  [[noreturn]] void report_spin(FindingKind kind, const std::string& message);

  u32 size() const { return static_cast<u32>(ctas.size()); }
  // The CTA that a shared address belongs to, nullptr when there is none; the address becomes an
  // offset in that CTA's window.
  Cta* owner(u64& address);

  // barrier.cluster: `mask` lanes of a warp arrive. PTX ISA 9.0 section 9.7.13.4: who waits waits
  // "for all non-exited threads of the cluster", so threads may exit after they arrived, and even
  // without having arrived.
  void arrive(Warp& warp, u32 mask, bool releases);
  u32 barrier_phase() const { return phase_; }
  const Clocks& barrier_released() const { return released_; }
  void launch_dependents();
  // A thread exited; `arrived`: at the barrier, in its present phase.
  void thread_exited(bool arrived);

  Launch& launch;
  u64 index = 0;
  u32 id[3] = {0, 0, 0};
  RaceTracker race;
  ClusterOrder order;  // against other clusters
  GridWaits grid_waits;
  BulkCopies bulk{*this};
  std::vector<std::unique_ptr<Cta>> ctas;  // by rank
  u64 events = 0;                          // of what may let a waiting thread go on

 private:
  Cta::Status run_all(u64 budget);
  void complete();
  std::string who_waits() const;

  Random random_{0};
  u32 arrived_ = 0, live_ = 0, phase_ = 0;
  bool launched_dependents_ = false;
  Clocks arriving_, released_;
  u64 seen_events_ = 0;
  struct Progress {
    u64 instructions = 0, writes = 0, vain_reads = 0, events = 0;
  };
  Progress progress_;  // until the latest turn
  u32 idle_rounds_ = 0;
};

}  // namespace vgpu
