#include "check/grid_order.h"

#include <algorithm>

#include "check/race.h"

namespace vgpu {

void GridWaits::start(const RaceTracker& race) {
  race_ = &race;
  waits_.clear();
  waited_.assign(race.threads(), 0);
}

void GridWaits::wait(u32 thread) {
  if (before(thread)) return;
  waits_.push_back({thread, race_->clock(thread)});
  waited_[thread] = 1;
}

bool GridWaits::before(u32 thread) {
  if (waited_[thread] != 0) return true;
  const bool ordered = std::any_of(waits_.begin(), waits_.end(), [&](const Wait& w) {
    return race_->ordered_after(w.thread, w.clock, thread);
  });
  if (ordered) waited_[thread] = 1;
  return ordered;
}

}  // namespace vgpu
