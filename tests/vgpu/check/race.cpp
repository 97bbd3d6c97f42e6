#include "check/race.h"

#include <algorithm>

namespace vgpu {

void RaceTracker::start(u32 shared_bytes, u32 granule, u32 threads) {
  granule_ = granule;
  threads_ = threads;
  const size_t cells = (shared_bytes + granule - 1) / granule;
  if (cells_.size() != cells) cells_.assign(cells, Cell{});
  base_ = ++top_;
  clocks_.assign(threads, base_);
  warp_base_.assign((threads + kLanes - 1) / kLanes, base_);
  fenced_.assign(threads, 0);
  rows_.clear();
  flags_.clear();
  seen_.clear();
}

bool RaceTracker::ordered(const Access& earlier, u32 thread) const {
  if (earlier.async()) return false;
  if (earlier.clock < base_ || earlier.thread() == thread) return true;
  const u32 warp = thread / kLanes;
  if (earlier.thread() / kLanes == warp && earlier.clock < warp_base_[warp]) return true;
  return !rows_.empty() && rows_[size_t{thread} * threads_ + earlier.thread()] > earlier.clock;
}

bool RaceTracker::conflict(const Access& earlier, u32 thread, bool strong, RaceReport& report,
                           bool wrote) const {
  if (known_to_all(earlier) || earlier.clock == 0 || ordered(earlier, thread) ||
      (strong && earlier.strong()))
    return false;
  report = {true, earlier.thread(), wrote, earlier.line()};
  return true;
}

void RaceTracker::remember_read(Cell& cell, const Access& access) const {
  Access& latest = cell.reads[0];
  if (latest.clock < base_ || latest.thread() == access.thread()) {
    latest = access;
    return;
  }
  if (latest.thread() / kLanes == access.thread() / kLanes) {
    cell.reads[1] = latest;
  } else {
    cell.reads[2] = latest;
  }
  latest = access;
}

RaceReport RaceTracker::read(u32 thread, u32 offset, u32 bytes, bool strong, u32 line) {
  RaceReport report;
  const Access access = make(thread, clocks_[thread], strong, line);
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    Cell& cell = cells_[i];
    if (!known_to_all(cell.write) && !report.found)
      conflict(cell.write, thread, strong, report, true);
    remember_read(cell, access);
  }
  return report;
}

RaceReport RaceTracker::write(u32 thread, u32 offset, u32 bytes, bool strong, u32 line) {
  RaceReport report;
  const Access access = make(thread, clocks_[thread], strong, line);
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    Cell& cell = cells_[i];
    if (!report.found) {
      conflict(cell.write, thread, strong, report, true) ||
          conflict(cell.reads[0], thread, strong, report, false) ||
          conflict(cell.reads[1], thread, strong, report, false) ||
          conflict(cell.reads[2], thread, strong, report, false);
    }
    cell.write = access;
  }
  return report;
}

RaceReport RaceTracker::begin_async(u32 thread, u32 offset, u32 bytes, u32 line) {
  const RaceReport report = write(thread, offset, bytes, false, line);
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i)
    cells_[i].write.set_async(true);
  return report;
}

void RaceTracker::finish_async(u32 thread, u32 offset, u32 bytes, u32 clock) {
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    Access& write = cells_[i].write;
    if (write.thread() != thread || !write.async()) continue;
    write.set_async(false);
    write.clock = clock == 0 ? clocks_[thread] : clock;
  }
}

void RaceTracker::barrier_all() {
  base_ = ++top_;
  std::fill(clocks_.begin(), clocks_.end(), base_);
  std::fill(warp_base_.begin(), warp_base_.end(), base_);
  rows_.clear();
  flags_.clear();
  seen_.clear();
}

void RaceTracker::ensure_rows() {
  if (!rows_.empty()) return;
  rows_.assign(size_t{threads_} * threads_, 0);
  for (u32 t = 0; t < threads_; ++t) {
    const u32 warp = t / kLanes;
    for (u32 o = warp * kLanes; o < std::min(threads_, (warp + 1) * kLanes); ++o)
      rows_[size_t{t} * threads_ + o] = warp_base_[warp];
  }
}

void RaceTracker::release(u32 thread, std::vector<u32>& released) {
  ensure_rows();
  released.resize(threads_, 0);
  const u32* row = &rows_[size_t{thread} * threads_];
  for (u32 o = 0; o < threads_; ++o) released[o] = std::max(released[o], row[o]);
  clocks_[thread] = ++top_;
  released[thread] = top_;  // knows what came before this clock
}

void RaceTracker::barrier_some(const std::vector<u32>& waiters, const std::vector<u32>& released) {
  ensure_rows();
  std::vector<u32> joined = released;
  joined.resize(threads_, 0);
  for (u32 t : waiters) {
    const u32* row = &rows_[size_t{t} * threads_];
    for (u32 o = 0; o < threads_; ++o) joined[o] = std::max(joined[o], row[o]);
  }
  ++top_;
  for (u32 t : waiters) {
    clocks_[t] = top_;
    joined[t] = top_;
  }
  for (u32 t : waiters) std::copy(joined.begin(), joined.end(), &rows_[size_t{t} * threads_]);
}

void RaceTracker::warp_sync(u32 warp, u32 mask) {
  const u32 first = warp * kLanes;
  const u32 count = std::min<u32>(kLanes, threads_ - first);
  const u32 all = count == kLanes ? kAllLanes : (1u << count) - 1;
  if ((mask & all) == all && rows_.empty()) {
    warp_base_[warp] = ++top_;
    for (u32 i = 0; i < count; ++i) clocks_[first + i] = top_;
    return;
  }
  std::vector<u32> threads;
  for_each_lane(mask & all, [&](int lane) { threads.push_back(first + static_cast<u32>(lane)); });
  barrier_some(threads, {});
}

void RaceTracker::release_until(u32 thread, u32 clock, std::vector<u32>& released) {
  released.resize(threads_, 0);
  released[thread] = std::max(released[thread], clock + 1);
}

void RaceTracker::acquire(u32 thread, const std::vector<u32>& released) {
  if (released.empty()) return;
  ensure_rows();
  u32* row = &rows_[size_t{thread} * threads_];
  for (u32 o = 0; o < threads_; ++o) row[o] = std::max(row[o], released[o]);
}

void RaceTracker::fence(u32 thread) {
  tick(thread);
  fenced_[thread] = clocks_[thread];
  const auto it = seen_.find(thread);
  if (it == seen_.end()) return;
  acquire(thread, it->second);
  seen_.erase(it);
}

void RaceTracker::flag_write(u32 thread, u32 offset, u32 bytes, bool releases, bool atomic) {
  if (releases) {
    tick(thread);
    fenced_[thread] = clocks_[thread];
  }
  // A fence before the last barrier of the CTA tells nothing that is not known already.
  const bool news = fenced_[thread] > base_;
  if (!news && flags_.empty()) return;
  for (u32 word = offset / 4; word <= (offset + bytes - 1) / 4; ++word) {
    // Atomics add to what was released before them, a plain write replaces it.
    if (!atomic) flags_.erase(word);
    if (!news) continue;
    ensure_rows();
    std::vector<u32>& flag = flags_[word];
    flag.resize(threads_, 0);
    const u32* row = &rows_[size_t{thread} * threads_];
    for (u32 o = 0; o < threads_; ++o) flag[o] = std::max(flag[o], row[o]);
    flag[thread] = std::max(flag[thread], fenced_[thread]);
  }
}

void RaceTracker::flag_read(u32 thread, u32 offset, u32 bytes, bool acquires) {
  if (flags_.empty()) return;
  for (u32 word = offset / 4; word <= (offset + bytes - 1) / 4; ++word) {
    const auto it = flags_.find(word);
    if (it == flags_.end()) continue;
    if (acquires) {
      acquire(thread, it->second);
      continue;
    }
    std::vector<u32>& seen = seen_[thread];
    seen.resize(threads_, 0);
    for (u32 o = 0; o < threads_; ++o) seen[o] = std::max(seen[o], it->second[o]);
  }
}

}  // namespace vgpu
