// The asynchronous proxy's part of the race check.
#include "check/proxy.h"

#include <algorithm>

#include "check/race.h"

namespace vgpu {
namespace {

bool overlap(const ByteRange& r, u32 offset, u32 bytes) {
  return r.offset < offset + bytes && offset < r.offset + r.bytes;
}
bool inside(const ByteRange& r, u32 offset, u32 bytes) {
  return r.offset >= offset && r.offset + r.bytes <= offset + bytes;
}

}  // namespace

u32 RaceTracker::agent(u64 key) {
  // When there are more than places, two share one: a race may be missed then, none is made up.
  const u32 next = threads_ + static_cast<u32>(agents_.size()) % (width_ - threads_);
  return agents_.try_emplace(key, next).first->second;
}

void RaceTracker::proxy_fence(u32 thread) {
  tick(thread);
  if (width_ == threads_) return;
  ensure_rows();
  const u32* known = row(thread);
  u32* shown = proxied_row(thread);
  for (u32 o = 0; o < threads_; ++o) shown[o] = std::max({shown[o], known[o], base_});
  for (u32 o = threads_; o < width_; ++o) shown[o] = std::max(shown[o], known[o]);
  shown[thread] = clocks_[thread];
}

bool RaceTracker::proxied(u32 thread, u32 other, u32 clock) const {
  return clock < proxied_base_[other] ||
         (!proxied_rows_.empty() && clock < proxied_rows_[size_t{thread} * width_ + other]);
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

RaceReport RaceTracker::async_read(AsyncId id, u32 offset, u32 bytes) {
  RaceReport report;
  AsyncOperation& op = operations_[id];
  Access before;
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_ && !report.found; ++i) {
    const Access& write = cells_[i].write;
    if (write == before) continue;  // its neighbour's answer
    before = write;
    conflict_with_write(write, op.thread, report);
  }
  op.low = op.reads.empty() ? offset : std::min(op.low, offset);
  op.high = op.reads.empty() ? offset + bytes : std::max(op.high, offset + bytes);
  if (!op.reads.empty() && op.reads.back().offset + op.reads.back().bytes == offset) {
    count_blocks(op.reads.back(), false);
    op.reads.back().bytes += bytes;
  } else {
    if (op.reads.empty()) ++reads_kept_;
    op.reads.push_back({offset, bytes});
  }
  count_blocks(op.reads.back(), true);
  return report;
}

RaceReport RaceTracker::async_write(AsyncId id, u32 offset, u32 bytes) {
  RaceReport report;
  const AsyncOperation& op = operations_[id];
  Access access = make(op.agent, kUnderWay, false, op.site);
  if (op.agent >= threads_) access.rest |= kByAgent;
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    Cell& cell = cells_[i];
    if (!report.found) {
      conflict_with_write(cell.write, op.thread, report) ||
          conflict(cell.reads[0], op.thread, false, report, false) ||
          conflict(cell.reads[1], op.thread, false, report, false) ||
          conflict(cell.reads[2], op.thread, false, report, false);
    }
    cell.write = access;
  }
  if (reads_kept_ != 0 && !report.found) conflict_with_reads(op.thread, offset, bytes, report);
  return report;
}

void RaceTracker::finish_write(AsyncId id, u32 offset, u32 bytes) {
  const u32 agent = operations_[id].agent;
  ++top_;
  for (u32 i = offset / granule_; i <= (offset + bytes - 1) / granule_; ++i) {
    Access& write = cells_[i].write;
    if (write.who() == agent && write.clock == kUnderWay) write.clock = top_;
  }
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
  row(thread)[agent] = proxied_row(thread)[agent] = ++top_;
}

// A write to bytes that asynchronous operations read. What they have read before is forgotten when
// it has been written over in order.
bool RaceTracker::conflict_with_reads(u32 thread, u32 offset, u32 bytes, RaceReport& report) {
  bool any = false;
  for (u32 b = offset / kBlock; b <= (offset + bytes - 1) / kBlock; ++b)
    any = any || reading_[b] != 0;
  if (!any) return false;
  for (AsyncOperation& op : operations_) {
    if (op.reads.empty() || offset >= op.high || op.low >= offset + bytes) continue;
    Access access = make(op.agent, op.under_way ? kUnderWay : op.clock, false, op.site);
    if (op.agent >= threads_) access.rest |= kByAgent;
    for (const ByteRange& r : op.reads) {
      if (!overlap(r, offset, bytes)) continue;
      if (conflict(access, thread, false, report, false)) return true;
      break;  // every range of the operation is ordered like this one
    }
    if (op.under_way) continue;
    std::erase_if(op.reads, [&](const ByteRange& r) {
      const bool gone = inside(r, offset, bytes);
      if (gone) count_blocks(r, false);
      return gone;
    });
    if (op.reads.empty()) {
      --reads_kept_;
      if (op.ended) forget(op);
    }
  }
  return false;
}

void RaceTracker::count_blocks(const ByteRange& r, bool add) {
  for (u32 b = r.offset / kBlock; b <= (r.offset + r.bytes - 1) / kBlock; ++b)
    reading_[b] = static_cast<u16>(reading_[b] + (add ? 1 : -1));
}

void RaceTracker::forget(AsyncOperation& op) {
  if (!op.reads.empty()) --reads_kept_;
  for (const ByteRange& r : op.reads) count_blocks(r, false);
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
