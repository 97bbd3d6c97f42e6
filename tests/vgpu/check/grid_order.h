// Programmatic dependent launch: a grid that may start before those it depends on are complete.
//
// PTX ISA 9.0 section 9.7.13.13 (griddepcontrol), CUDA programming guide 4.5. Grids run one after
// the other here, which is allowed. What can be found nevertheless is an access to bytes that an
// unfinished grid has written. To a grid launched with programmatic stream serialization,
// unfinished are
//  - the grid before it, if a CTA of that one executed launch_dependents: without it, dependents
//    start when it is complete;
//  - what was unfinished to the grid before, if none of that one's clusters executed
//    griddepcontrol.wait before it let its dependents start.
// A thread may access what they have written after griddepcontrol.wait: its own, or another
// thread's of its cluster that is ordered before it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/types.h"

namespace vgpu {

class RaceTracker;

using ByteSets = std::map<u64, std::vector<u64>>;  // allocation base -> bit per byte

struct UnfinishedGrid {
  std::string kernel;
  ByteSets written;
};
using UnfinishedGrids = std::vector<std::shared_ptr<const UnfinishedGrid>>;

// The waits of one cluster. Threads are the cluster's.
class GridWaits {
 public:
  void start(const RaceTracker& race);
  void wait(u32 thread);
  bool any() const { return !waits_.empty(); }
  // Whether what the thread does now comes after a wait.
  bool before(u32 thread);

 private:
  struct Wait {
    u32 thread, clock;
  };
  const RaceTracker* race_ = nullptr;
  std::vector<Wait> waits_;
  std::vector<u8> waited_;  // by thread
};

}  // namespace vgpu
