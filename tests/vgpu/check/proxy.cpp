// The asynchronous proxy's part of the race check.
#include "check/proxy.h"

#include <algorithm>

#include "check/race.h"

namespace vgpu {

u32 RaceTracker::agent(u64 key) {
  // When there are more than places, two share one: a race may be missed then, none is made up.
  const u32 next = threads_ + static_cast<u32>(agents_.size()) % (width_ - threads_);
  return agents_.try_emplace(key, next).first->second;
}

void RaceTracker::proxy_fence(u32 thread) {
  tick(thread);
  ++proxy_fences_;
  if (!has_agents()) return;
  ensure_rows();
  u32* shown = proxied_row(thread);
  for (u32 who : {thread, warp_row(thread)})
    for (u32 o = 0; o < width_ && learned(who); ++o) shown[o] = std::max(shown[o], known(who)[o]);
  for (u32 o = 0; o < threads_; ++o) shown[o] = std::max(shown[o], base_);
  shown[thread] = clocks_[thread];
}

bool RaceTracker::proxied(u32 thread, u32 other, u32 clock) const {
  return clock < proxied_base_[other] || knows(thread, size_t{proxied_at_} + other, clock);
}

u32 RaceTracker::own_proxied(u32 thread) const {
  if (!has_agents()) return 0;
  return std::max(proxied_base_[thread], learned(thread) ? shown(thread)[thread] : 0);
}

u32 RaceTracker::tick_warp(u32 warp) {
  ++top_;
  for (u32 t = warp * kLanes; t < std::min(threads_, (warp + 1) * kLanes); ++t) clocks_[t] = top_;
  return top_;
}

void RaceTracker::forgive(u32 first_thread, u32 count) {
  if (!has_agents()) return;
  ensure_rows();
  for (u32 t = first_thread; t < first_thread + count; ++t) {
    u32* const shown = proxied_row(t);
    for (u32 o = 0; o < threads_; ++o) shown[o] = std::max(shown[o], clocks_[o] + 1);
  }
}

AsyncId RaceTracker::begin_operation(u32 thread, u32 agent, u32 site) {
  AsyncId id;
  if (free_operations_.empty()) {
    id = static_cast<AsyncId>(operations_.size());
    operations_.emplace_back();
  } else {
    id = free_operations_.back();
    free_operations_.pop_back();
  }
  AsyncOperation& op = operations_[id];
  op.used = op.under_way = true;
  op.ended = false;
  op.thread = thread;
  op.agent = agent;
  op.site = site;
  op.reads.clear();
  return id;
}

// An earlier write of the generic proxy must have been shown to the asynchronous one.
bool RaceTracker::conflict_with_write(const Access& earlier, u32 thread, RaceReport& report) const {
  if (earlier.clock == 0 || (earlier.clock != kUnderWay && !earlier.by_agent() &&
                             proxied(thread, earlier.who(), earlier.clock)))
    return false;
  if (conflict(earlier, thread, false, report, true)) return true;
  if (earlier.by_agent()) return false;
  report = {true, earlier.who(), true, true, earlier.site()};
  return true;
}

bool RaceTracker::written_alike(u32 block) {
  Written& state = written_[block];
  if (state == Written::kUnknown) {
    const u32 count = kBlock / granule_;
    const Access* const writes = &writes_[size_t{block} * count];
    const bool alike = std::equal(writes + 1, writes + count, writes);
    state = alike ? Written::kAlike : Written::kMixed;
  }
  return state == Written::kAlike;
}

// `before` is the write whose answer is known: a neighbour's.
void RaceTracker::check_read(const AsyncOperation& op, const UnitBlock& read, Access& before,
                             RaceReport& report, const ShownStores* also) {
  const auto check = [&](const Access& write) {
    if (report.found || write == before) return;
    before = write;
    if (also != nullptr && write.clock != kUnderWay) {
      const u32 i = write.who() - also->first_thread;
      if (!write.by_agent() && i < also->below.size() && write.clock < also->below[i]) return;
      const bool own = write.by_agent() || write.who() / kLanes == op.thread / kLanes;
      if (own && write.clock >= also->issued) {
        report = {true, write.who(), true, false, write.site()};
        return;
      }
    }
    conflict_with_write(write, op.thread, report);
  };
  const u32 per_unit = UnitBlock::kUnit / granule_;
  const Access* const writes = &writes_[size_t{read.block} * kBlock / granule_];
  if (written_alike(read.block)) {
    check(*writes);
    return;
  }
  for (u32 unit = 0; unit < 16; ++unit)
    for (u32 i = 0; i < per_unit && (read.units >> unit & 1) != 0; ++i)
      check(writes[unit * per_unit + i]);
}

void RaceTracker::remember_read(AsyncOperation& op, const UnitBlock& read) {
  if (op.reads.empty()) {
    ++reads_kept_;
    op.low = op.high = read.block;
  } else if (op.reads.back().block == read.block) {
    op.reads.back().units |= read.units;
    return;
  }
  op.reads.push_back(read);
  op.low = std::min(op.low, read.block);
  op.high = std::max(op.high, read.block);
  ++reading_[read.block];
}

RaceReport RaceTracker::async_read(AsyncId id, u32 offset, u32 bytes) {
  RaceReport report;
  AsyncOperation& op = operations_[id];
  Access before;
  for (u32 b = offset / kBlock; b <= (offset + bytes - 1) / kBlock; ++b) {
    const UnitBlock read{b, units_touched(b, offset, offset + bytes)};
    check_read(op, read, before, report);
    remember_read(op, read);
  }
  return report;
}

RaceReport RaceTracker::foresee_reads(AsyncId id, const std::vector<UnitBlock>& blocks,
                                      u32 first_block) {
  RaceReport report;
  Access before;
  for (const UnitBlock& b : blocks)
    check_read(operations_[id], {first_block + b.block, b.units}, before, report);
  return report;
}

RaceReport RaceTracker::look_again(AsyncId id, const std::vector<UnitBlock>& blocks,
                                   u32 first_block, const ShownStores& shown) {
  RaceReport report;
  Access before;
  for (const UnitBlock& b : blocks)
    check_read(operations_[id], {first_block + b.block, b.units}, before, report, &shown);
  return report;
}

void RaceTracker::remember_reads(AsyncId id, const std::vector<UnitBlock>& blocks,
                                 u32 first_block) {
  for (const UnitBlock& b : blocks)
    remember_read(operations_[id], {first_block + b.block, b.units});
}

RaceReport RaceTracker::async_write(AsyncId id, u32 offset, u32 bytes) {
  RaceReport report;
  ++writes_made_;
  const AsyncOperation& op = operations_[id];
  Access access = make(op.agent, kUnderWay, false, op.site);
  if (op.agent >= threads_) access.rest |= kByAgent;
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    if (!report.found) {
      conflict_with_write(writes_[i], op.thread, report) ||
          conflict_with(reads_[i], op.thread, false, report);
    }
    writes_[i] = access;
  }
  for (u32 b = offset / kBlock; b <= (offset + bytes - 1) / kBlock; ++b)
    written_[b] = Written::kUnknown;
  if (reads_kept_ != 0 && !report.found) conflict_with_reads(op.thread, offset, bytes, report);
  return report;
}

void RaceTracker::finish_write(AsyncId id, u32 offset, u32 bytes) {
  const u32 agent = operations_[id].agent;
  ++top_;
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    Access& write = writes_[i];
    if (write.who() == agent && write.clock == kUnderWay) write.clock = top_;
  }
  for (u32 b = offset / kBlock; b <= (offset + bytes - 1) / kBlock; ++b)
    written_[b] = Written::kUnknown;
}

void RaceTracker::finish_reads(AsyncId id) {
  AsyncOperation& op = operations_[id];
  if (!op.under_way) return;
  op.under_way = false;
  op.clock = op.agent < threads_ ? clocks_[op.agent] : ++top_;
  if (op.reads.empty()) return;
  // Whoever knows of this one knows of the agent's earlier ones.
  for (AsyncOperation& other : operations_) {
    if (&other != &op && other.used && !other.under_way && other.agent == op.agent &&
        other.reads == op.reads)
      forget(other);
  }
}

void RaceTracker::end_operation(AsyncId id) {
  AsyncOperation& op = operations_[id];
  if (op.under_way) finish_reads(id);
  op.ended = true;
  if (op.reads.empty()) forget(op);
}

void RaceTracker::release_agent(u32 agent, Clocks& released) {
  ++top_;
  released.plain.resize(width_, 0);
  released.proxied.resize(width_, 0);
  released.plain[agent] = released.proxied[agent] = top_;
}

void RaceTracker::learn_agent(u32 thread, u32 agent) {
  ensure_rows();
  row(warp_row(thread))[agent] = proxied_row(warp_row(thread))[agent] = ++top_;
}

// A write to bytes that asynchronous operations read. What they have read before is forgotten when
// it has been written over in order.
bool RaceTracker::conflict_with_reads(u32 thread, u32 offset, u32 bytes, RaceReport& report) {
  const u32 end = offset + bytes, low = offset / kBlock, high = (end - 1) / kBlock;
  bool any = false;
  for (u32 b = low; b <= high; ++b) any = any || reading_[b] != 0;
  if (!any) return false;
  for (AsyncOperation& op : operations_) {
    if (op.reads.empty() || high < op.low || op.high < low) continue;
    Access access = make(op.agent, op.under_way ? kUnderWay : op.clock, false, op.site);
    if (op.agent >= threads_) access.rest |= kByAgent;
    for (const UnitBlock& r : op.reads) {
      if (r.block < low || r.block > high || (r.units & units_touched(r.block, offset, end)) == 0)
        continue;
      if (conflict(access, thread, false, report, false)) return true;
      break;  // every unit of the operation is ordered like this one
    }
    if (op.under_way) continue;
    for (UnitBlock& r : op.reads) {
      if (r.block < low || r.block > high) continue;
      r.units &= ~units_covered(r.block, offset, end);
      if (r.units == 0) --reading_[r.block];
    }
    std::erase_if(op.reads, [](const UnitBlock& r) { return r.units == 0; });
    if (op.reads.empty()) {
      --reads_kept_;
      if (op.ended) forget(op);
    }
  }
  return false;
}

void RaceTracker::forget(AsyncOperation& op) {
  if (!op.reads.empty()) --reads_kept_;
  for (const UnitBlock& r : op.reads) --reading_[r.block];
  op.reads.clear();
  if (!op.ended || !op.used) return;
  op.used = false;
  free_operations_.push_back(static_cast<AsyncId>(&op - operations_.data()));
}

// After a barrier of all threads.
void RaceTracker::forget_known_reads() {
  for (AsyncOperation& op : operations_) {
    if (!op.used || op.under_way || op.reads.empty()) continue;
    const u32 known = op.agent < threads_ ? base_ : agent_base_[op.agent - threads_];
    if (op.clock < known) forget(op);
  }
}

}  // namespace vgpu
