// One grid in execution, and the machine it runs on.
//
// Invariants:
//  - CTAs of a kernel that never communicates through global memory run on all cores; such a
//    kernel's results and counts do not depend on the order. Any other kernel runs on one core with
//    its resident CTAs interleaved in seeded order, so that a seed fixes the result.
//  - A Fault in any CTA ends the launch; the first one in time is the one reported.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "check/finding.h"
#include "check/global_race.h"
#include "check/grid_order.h"
#include "count/counters.h"
#include "machine/device.h"
#include "machine/global_memory.h"
#include "machine/ir.h"
#include "machine/tensor_sum.h"

namespace vgpu {

struct Machine {
  DeviceModel device;
  GlobalMemory memory;
  Findings findings;
  u64 seed = 0;
  u64 heap_limit = 8u << 20, heap_used = 0;  // of malloc in kernels, bytes
  unsigned cores = 1;
  Asynchrony asynchrony = Asynchrony::kBySeed;
  bool count = false;  // memory counters too
  MmaSums mma = MmaSums::kExact;
  double timeout_s = 600;               // per launch
  std::set<std::pair<int, int>> peers;  // the first device's kernels may use the second's memory
  std::vector<LaunchCounts> launches;
  std::function<void(const std::string&)> print;  // device printf
  u64 launch_index = 0;
};

struct LaunchConfig {
  u32 grid[3] = {1, 1, 1};
  u32 block[3] = {1, 1, 1};
  u32 cluster[3] = {1, 1, 1};
  bool clustered = false;  // asked for, by the launch or the kernel
  u32 dynamic_shared = 0;
  bool cooperative = false;
  int device = 0;
  UnfinishedGrids unfinished;  // what the grid need not have waited for
};

class Cluster;

class Launch {
 public:
  Launch(Machine& machine, const Program& program, const LaunchConfig& config,
         std::vector<u8> params);
  ~Launch();

  void run();  // throws Fault

  Machine& machine;
  const Program& program;
  const LaunchConfig config;
  u32 threads = 0;
  u64 clusters = 0;
  u64 seed = 0;
  u64 grid_id = 0;
  Allocation* params = nullptr;
  u64 workspace = 0;  // of the grid barrier, zeroed; 0 when the kernel has none
  std::mutex print_mutex;
  double deadline = 0;

  // The asynchrony of a CTA or cluster whose random number this is.
  Asynchrony asynchrony(u64 random) const {
    return machine.asynchrony != Asynchrony::kBySeed ? machine.asynchrony
                                                     : static_cast<Asynchrony>(random % 3);
  }

  // Waits of one cluster for another.
  bool ordered() const { return program.needs_order || config.cooperative; }
  u32 started() const { return started_; }  // clusters
  // Whether the cluster started after so many others, and need not have: not all of the grid fits.
  bool started_after(u32 cluster, u32 count) const;
  std::string residency() const;

  bool expired() const;
  // Whether accesses to global memory are remembered: to count them, or for their order.
  bool remembers() const {
    return machine.count || program.launches_dependents || !config.unfinished.empty();
  }
  void touch(u32 mask, const u64 (&address)[kLanes], u32 bytes, bool write);
  void touch(const Allocation& a, u64 offset, u32 bytes, bool write);

  // griddepcontrol.launch_dependents, and the end of a cluster. See check/grid_order.h.
  void launch_dependents() { launched_dependents_ = true; }
  void has_waited() { has_waited_ = true; }
  const UnfinishedGrid* unfinished_writer(const Allocation& a, u64 offset, u32 bytes) const;
  // For the grid that comes next.
  UnfinishedGrids unfinished() const;

 private:
  void run_parallel();
  void run_ordered();
  u64 cluster_at(u64 position) const;
  void merge(const std::vector<PcCount>& counts);

  void start_cluster(Cluster& cluster, u64 position);
  // Clusters that the device holds at the same time.
  u64 capacity() const;
  // No cluster can go on by what the others do.
  void stuck(Cluster& cluster);

  u64 touched_bytes(bool write) const;

  std::vector<PcCount> counts_;
  ByteSets touched_[2];  // by reads, by writes
  std::atomic<bool> launched_dependents_ = false, has_waited_ = false;
  std::mutex mutex_;
  u32 started_ = 0;
  std::vector<u32> starts_;  // by cluster: `started_` then

 public:
  GlobalRaces races;
};

}  // namespace vgpu
