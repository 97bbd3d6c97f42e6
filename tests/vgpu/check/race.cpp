#include "check/race.h"

#include <algorithm>

namespace vgpu {

void RaceTracker::start(u32 shared_bytes, u32 granule, u32 threads, u32 agents) {
  granule_ = granule;
  threads_ = threads;
  width_ = threads + agents;
  const u32 blocks = (shared_bytes + kBlock - 1) / kBlock;
  const size_t cells = size_t{blocks} * kBlock / granule;
  if (writes_.size() != cells) {
    writes_.assign(cells, {});
    reads_.assign(cells, {});
  }
  written_.assign(blocks, Written::kUnknown);
  base_ = ++top_;
  clocks_.assign(threads, base_);
  warp_base_.assign((threads + kLanes - 1) / kLanes, base_);
  fenced_.assign(threads, 0);
  proxied_at_ = agents == 0 ? 0 : width_;
  row_size_ = width_ + proxied_at_;
  has_rows_ = false;
  flags_.clear();
  seen_.clear();
  if (agents == 0) return;
  proxied_base_.assign(width_, base_);
  agent_base_.assign(agents, base_);
  agents_.clear();
  operations_.clear();
  free_operations_.clear();
  reading_.assign(blocks, 0);
  reads_kept_ = 0;
}

bool RaceTracker::ordered(const Access& earlier, u32 thread) const {
  if (earlier.clock == kUnderWay) return false;
  const u32 who = earlier.who();
  if (who == thread) return true;
  if (earlier.by_agent()) {
    if (earlier.clock < agent_base_[who - threads_]) return true;
  } else {
    if (earlier.clock < base_) return true;
    const u32 warp = thread / kLanes;
    if (who / kLanes == warp && earlier.clock < warp_base_[warp]) return true;
  }
  return knows(thread, who, earlier.clock);
}

bool RaceTracker::conflict(const Access& earlier, u32 thread, bool strong, RaceReport& report,
                           bool wrote) const {
  if (known_to_all(earlier) || earlier.clock == 0 || ordered(earlier, thread) ||
      (strong && earlier.strong()))
    return false;
  report = {true, earlier.who(), wrote, false, earlier.site()};
  return true;
}

bool RaceTracker::conflict_with(const Reads& reads, u32 thread, bool strong,
                                RaceReport& report) const {
  return conflict(reads[0], thread, strong, report, false) ||
         conflict(reads[1], thread, strong, report, false) ||
         conflict(reads[2], thread, strong, report, false);
}

void RaceTracker::remember_read(Reads& reads, const Access& access) const {
  Access& latest = reads[0];
  if (latest.clock < base_ || latest.who() == access.who()) {
    latest = access;
    return;
  }
  if (latest.who() / kLanes == access.who() / kLanes) {
    reads[1] = latest;
  } else {
    reads[2] = latest;
  }
  latest = access;
}

RaceReport RaceTracker::read(u32 thread, u32 offset, u32 bytes, bool strong, u32 site) {
  RaceReport report;
  const Access access = make(thread, clocks_[thread], strong, site);
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    const Access& write = writes_[i];
    if (!known_to_all(write) && !report.found) conflict(write, thread, strong, report, true);
    remember_read(reads_[i], access);
  }
  return report;
}

RaceReport RaceTracker::write(u32 thread, u32 offset, u32 bytes, bool strong, u32 site) {
  RaceReport report;
  ++writes_made_;
  const Access access = make(thread, clocks_[thread], strong, site);
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    if (!report.found) {
      conflict(writes_[i], thread, strong, report, true) ||
          conflict_with(reads_[i], thread, strong, report);
    }
    writes_[i] = access;
  }
  for (u32 b = offset / kBlock; b <= (offset + bytes - 1) / kBlock; ++b)
    written_[b] = Written::kUnknown;
  if (reads_kept_ != 0 && !report.found) conflict_with_reads(thread, offset, bytes, report);
  return report;
}

RaceReport RaceTracker::begin_async(u32 thread, u32 offset, u32 bytes, u32 site) {
  const RaceReport report = write(thread, offset, bytes, false, site);
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i)
    writes_[i].clock = kUnderWay;
  return report;
}

void RaceTracker::finish_async(u32 thread, u32 offset, u32 bytes, u32 clock) {
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    Access& write = writes_[i];
    if (write.who() == thread && write.clock == kUnderWay)
      write.clock = clock == 0 ? clocks_[thread] : clock;
  }
  for (u32 b = offset / kBlock; b <= (offset + bytes - 1) / kBlock; ++b)
    written_[b] = Written::kUnknown;
}

void RaceTracker::barrier_all() {
  if (has_rows_ && has_agents()) {
    // What one of them knew of the asynchronous proxy, all know.
    for (u32 who = 0; who < learned_.size(); ++who) {
      if (!learned(who)) continue;
      for (u32 a = threads_; a < width_; ++a)
        agent_base_[a - threads_] = std::max(agent_base_[a - threads_], known(who)[a]);
      for (u32 o = 0; o < width_; ++o) proxied_base_[o] = std::max(proxied_base_[o], shown(who)[o]);
    }
  }
  ++proxy_fences_;
  base_ = ++top_;
  std::fill(clocks_.begin(), clocks_.end(), base_);
  std::fill(warp_base_.begin(), warp_base_.end(), base_);
  has_rows_ = false;
  flags_.clear();
  seen_.clear();
  if (reads_kept_ != 0) forget_known_reads();
}

void RaceTracker::ensure_rows() {
  if (has_rows_) return;
  has_rows_ = true;
  learned_.assign(threads_ + warp_base_.size(), 0);
  rows_.resize(learned_.size() * row_size_);
  for (u32 warp = 0; warp < warp_base_.size(); ++warp)
    for (u32 o = warp * kLanes; o < std::min(threads_, (warp + 1) * kLanes); ++o)
      row(threads_ + warp)[o] = warp_base_[warp];
}

u32* RaceTracker::row(u32 who) {
  u32* const begin = &rows_[size_t{who} * row_size_];
  if (std::exchange(learned_[who], u8{1}) == 0) std::fill(begin, begin + row_size_, 0);
  return begin;
}

void RaceTracker::join_row(u32 who, Clocks& to) const {
  if (!learned(who)) return;
  Clocks::join(to.plain, known(who), width_);
  if (has_agents()) Clocks::join(to.proxied, shown(who), width_);
}

KnownClocks RaceTracker::known_by(u32 thread) const {
  KnownClocks k;
  k.base = base_;
  k.warp = thread / kLanes;
  k.warp_base = warp_base_[k.warp];
  k.self = thread;
  k.self_clock = clocks_[thread];
  k.threads = threads_;
  if (has_agents()) k.agents = agent_base_;
  for (u32 who : {thread, warp_row(thread)})
    if (learned(who)) Clocks::join(k.row, known(who), width_);
  return k;
}

void KnownClocks::expand(u32 width, std::vector<u32>& out) const {
  out.assign(width, 0);
  if (threads == 0) return;
  std::fill(out.begin(), out.begin() + threads, base);
  for (u32 o = warp * kLanes; o < std::min(threads, (warp + 1) * kLanes); ++o)
    out[o] = std::max(out[o], warp_base);
  out[self] = std::max(out[self], self_clock);
  std::copy(agents.begin(), agents.end(), out.begin() + threads);
  Clocks::join(out, row.data(), row.size());
}

void RaceTracker::release(u32 thread, Clocks& released) {
  ensure_rows();
  join_row(thread, released);
  join_row(warp_row(thread), released);
  released.plain.resize(width_, 0);
  clocks_[thread] = ++top_;
  released.plain[thread] = top_;  // knows what came before this clock
}

void RaceTracker::release_fenced(u32 thread, Clocks& released) {
  if (fenced_[thread] <= base_) return;
  ensure_rows();
  join_row(thread, released);
  join_row(warp_row(thread), released);
  released.plain.resize(width_, 0);
  released.plain[thread] = std::max(released.plain[thread], fenced_[thread]);
}

void RaceTracker::barrier_some(const std::vector<u32>& waiters, const Clocks& released) {
  ensure_rows();
  Clocks joined = released;
  joined.plain.resize(width_, 0);
  std::vector<u32> count(warp_base_.size(), 0);  // waiters by warp
  for (u32 t : waiters) {
    join_row(t, joined);
    if (count[t / kLanes]++ == 0) join_row(warp_row(t), joined);
  }
  ++top_;
  for (u32 t : waiters) {
    clocks_[t] = top_;
    joined.plain[t] = top_;
  }
  for (u32 t : waiters) {
    u32& left = count[t / kLanes];
    const bool together = left == kLanes;
    if (left == 0) continue;
    const u32 who = together ? warp_row(t) : t;
    if (together) left = 0;
    std::copy(joined.plain.begin(), joined.plain.end(), row(who));
    std::copy(joined.proxied.begin(), joined.proxied.end(), proxied_row(who));
  }
}

void RaceTracker::warp_sync(u32 warp, u32 mask) {
  const u32 first = warp * kLanes;
  const u32 count = std::min<u32>(kLanes, threads_ - first);
  const u32 all = count == kLanes ? kAllLanes : (1u << count) - 1;
  if ((mask & all) == all && !has_rows_) {
    warp_base_[warp] = ++top_;
    for (u32 i = 0; i < count; ++i) clocks_[first + i] = top_;
    return;
  }
  std::vector<u32> threads;
  for_each_lane(mask & all, [&](int lane) { threads.push_back(first + static_cast<u32>(lane)); });
  barrier_some(threads, {});
}

void RaceTracker::release_until(u32 thread, u32 clock, Clocks& released) {
  released.plain.resize(width_, 0);
  released.plain[thread] = std::max(released.plain[thread], clock + 1);
}

void RaceTracker::learn(u32 who, const Clocks& released) {
  if (released.empty()) return;
  ensure_rows();
  u32* known = row(who);
  for (u32 o = 0; o < width_; ++o) known[o] = std::max(known[o], released.plain[o]);
  if (released.proxied.empty()) return;
  u32* shown = proxied_row(who);
  for (u32 o = 0; o < width_; ++o) shown[o] = std::max(shown[o], released.proxied[o]);
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
    release_fenced(thread, flags_[word]);
  }
}

void RaceTracker::flag_read(u32 thread, u32 offset, u32 bytes, bool acquires) {
  if (flags_.empty()) return;
  for (u32 word = offset / 4; word <= (offset + bytes - 1) / 4; ++word) {
    const auto it = flags_.find(word);
    if (it == flags_.end()) continue;
    if (acquires) {
      acquire(thread, it->second);
    } else {
      observe(thread, it->second);
    }
  }
}

void CtaRace::barrier_all() {
  if (alone_) {
    tracker_->barrier_all();
    return;
  }
  std::vector<u32> all(threads_);
  for (u32 t = 0; t < threads_; ++t) all[t] = thread0_ + t;
  tracker_->barrier_some(all, {});
}
void CtaRace::barrier_some(std::vector<u32> waiters, const Clocks& released) {
  for (u32& t : waiters) t += thread0_;
  tracker_->barrier_some(waiters, released);
}

}  // namespace vgpu
