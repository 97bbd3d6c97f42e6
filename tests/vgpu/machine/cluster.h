// A cluster: CTAs that run at the same time and reach each other's shared memory. A launch without
// clusters has clusters of one.
//
// PTX ISA 9.0 section 2.2.2. Invariants:
//  - All CTAs of a cluster are resident together and take turns in seeded order.
//  - Addresses below kPeer are of the CTA's own shared memory; kPeer * (rank + 1) + address is the
//    same place in the CTA of that rank.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/bulk.h"
#include "check/grid_order.h"
#include "check/race.h"
#include "machine/cta.h"

namespace vgpu {

class Launch;

class Cluster {
 public:
  static constexpr u64 kPeer = 1u << 24;

  Cluster(Launch& launch, std::vector<PcCount>& counts);

  void start(u64 index);
  // Runs up to about `budget` warp instructions. Throws Fault.
  Cta::Status run(u64 budget);
  // With everything blocked: lets time pass, or reports a deadlock. `alone`: no other cluster runs
  // that could change global memory meanwhile.
  void resolve_block(bool alone);

  u32 size() const { return static_cast<u32>(ctas.size()); }
  // The CTA that a shared address of `own` belongs to, nullptr when there is none; the address
  // becomes that CTA's own.
  Cta* owner(Cta& own, u64& address);

  // barrier.cluster: `mask` lanes of a warp arrive. PTX ISA 9.0 section 9.7.13.3.
  void arrive(Warp& warp, const Instr& in, u32 mask, bool releases);
  u32 barrier_phase() const { return phase_; }
  const Clocks& barrier_released() const { return released_; }
  void launch_dependents();
  void thread_exited();

  Launch& launch;
  u64 index = 0;
  u32 id[3] = {0, 0, 0};
  RaceTracker race;
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
  u32 idle_rounds_ = 0;
};

}  // namespace vgpu
