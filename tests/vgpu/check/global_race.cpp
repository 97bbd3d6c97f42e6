#include "check/global_race.h"

#include <algorithm>

namespace vgpu {
namespace {

bool at_least(const std::vector<u32>& a, const std::vector<u32>& b) {
  if (a.size() < b.size()) return false;
  for (size_t i = 0; i < b.size(); ++i)
    if (a[i] < b[i]) return false;
  return true;
}

std::shared_ptr<const Bounds> joined(const std::shared_ptr<const Bounds>& a,
                                     const std::shared_ptr<const Bounds>& b) {
  if (a == b || (at_least(a->plain, b->plain) && at_least(a->proxied, b->proxied))) return a;
  if (at_least(b->plain, a->plain) && at_least(b->proxied, a->proxied)) return b;
  auto out = std::make_shared<Bounds>(*a);
  Clocks::join(out->plain, b->plain.data(), b->plain.size());
  Clocks::join(out->proxied, b->proxied.data(), b->proxied.size());
  return out;
}

bool before(const ClusterBounds& a, const ClusterBounds& b) {
  return a.cluster != b.cluster ? a.cluster < b.cluster : a.scope < b.scope;
}

}  // namespace

KnownSetPtr merged(const KnownSetPtr& a, const KnownSetPtr& b) {
  if (a == b || b == nullptr || b->empty()) return a;
  if (a == nullptr || a->empty()) return b;
  auto out = std::make_shared<KnownSet>();
  out->reserve(a->size() + b->size());
  auto i = a->begin(), j = b->begin();
  while (i != a->end() || j != b->end()) {
    if (j == b->end() || (i != a->end() && before(*i, *j))) {
      out->push_back(*i++);
    } else if (i == a->end() || before(*j, *i)) {
      out->push_back(*j++);
    } else {
      out->push_back({i->cluster, i->cta, i->scope, joined(i->bounds, j->bounds)});
      ++i;
      ++j;
    }
  }
  return out;
}

void ClusterOrder::start(RaceTracker& race, u32 cluster, u32 threads_per_cta) {
  race_ = &race;
  cluster_ = cluster;
  threads_per_cta_ = threads_per_cta;
  fences_.clear();
  narrow_fences_.clear();
  fenced_.clear();
  wide_fences_ = 0;
  learned_.clear();
  seen_.clear();
  proxy_fences_.clear();
  forgiven_.clear();
  forgiven_proxied_.clear();
  writes = vain_reads = 0;
  spins_.assign(race.threads(), {});
}

void ClusterOrder::fence(u32 thread, Scope scope, bool releases, bool acquires) {
  const KnownClocks known = race_->known_by(thread);
  if (fences_.empty()) {
    fences_.resize(race_->threads());
    narrow_fences_.resize(race_->threads());
    fenced_.assign(race_->threads(), 0);
  }
  if (!releases) {
    // Nothing that comes later is before it.
  } else if (scope == kGpuScope) {
    fences_[thread] = {known, true};
    narrow_fences_[thread].any = false;
    fenced_[thread] = known.self_clock;
    ++wide_fences_;
  } else {
    narrow_fences_[thread] = {known, true};
  }
  // The flag may have been read by another thread that this one comes after: a barrier lets its
  // threads all fence for one that has read.
  const size_t count = seen_.size();
  for (size_t i = 0; acquires && i < count; ++i)
    if (after(seen_[i].thread, seen_[i].clock, thread))
      learn(thread, seen_[i].set, std::min(seen_[i].scope, scope));
}

void ClusterOrder::proxy_fence(u32 thread) {
  // What there is to show are stores of this cluster, and what it has learned of others.
  if (writes == 0 && learned_.empty()) return;
  race_->tick(thread);
  constexpr size_t kMany = 4096;
  if (proxy_fences_.size() > kMany)  // the oldest: a fence may be missed to be missing
    proxy_fences_.erase(proxy_fences_.begin(), proxy_fences_.begin() + kMany / 2);
  proxy_fences_.push_back({thread, race_->clock(thread), race_->known_by(thread), others(thread)});
}

KnownSetPtr ClusterOrder::others(u32 thread) const {
  KnownSetPtr out;
  for (const Learned& l : learned_)
    if (l.scope == kGpuScope && after(l.thread, l.clock, thread)) out = merged(out, l.set);
  return out;
}

void ClusterOrder::add_bounds(u32 thread, const KnownClocks& known, Scope scope,
                              bool fences_of_others, KnownSet& out) {
  auto bounds = std::make_shared<Bounds>();
  known.expand(race_->width(), bounds->plain);
  if (fences_of_others) {
    // What another thread did before a fence of its own, and this thread knows of by now.
    std::vector<u32> now;
    race_->known_by(thread).expand(race_->width(), now);
    for (u32 o = 0; o < fenced_.size(); ++o)
      bounds->plain[o] = std::max(bounds->plain[o], std::min(now[o], fenced_[o]));
  }
  if (!proxy_fences_.empty()) {
    bounds->proxied.assign(race_->width(), 0);
    std::vector<u32> seen;
    for (const ProxyFence& f : proxy_fences_) {
      if (!after(f.thread, f.clock, thread)) continue;
      f.known.expand(race_->width(), seen);
      Clocks::join(bounds->proxied, seen.data(), seen.size());
    }
  }
  out.push_back({cluster_, rank(thread), scope, std::move(bounds)});
}

KnownSetPtr ClusterOrder::released(u32 thread, bool releases, Scope scope) {
  KnownSet own;
  if (releases) {
    race_->tick(thread);
    add_bounds(thread, race_->known_by(thread), scope, false, own);
  } else if (!fences_.empty()) {
    if (narrow_fences_[thread].any)
      add_bounds(thread, narrow_fences_[thread].known, std::min(scope, kClusterScope), false, own);
    if (fences_[thread].any || wide_fences_ != 0) {
      add_bounds(thread, fences_[thread].known, scope, true, own);
      if (own.size() == 2 && own[0].scope == own[1].scope) {
        own[0].bounds = joined(own[0].bounds, own[1].bounds);
        own.pop_back();
      }
    }
  }
  if (own.empty()) return nullptr;
  const auto set = std::make_shared<const KnownSet>(std::move(own));
  return scope == kGpuScope ? merged(set, others(thread)) : set;
}

void ClusterOrder::acquire(u32 thread, const KnownSetPtr& set, bool acquires, Scope scope) {
  if (acquires) {
    learn(thread, set, scope);
    return;
  }
  // Of each thread the latest few: a fence comes soon, or not at all.
  constexpr size_t kMost = 8;
  size_t oldest = 0, count = 0;
  for (size_t i = seen_.size(); i-- > 0;) {
    if (seen_[i].thread != thread) continue;
    if (seen_[i].set == set && seen_[i].scope >= scope) return;
    oldest = i;
    ++count;
  }
  if (count >= kMost) seen_.erase(seen_.begin() + static_cast<std::ptrdiff_t>(oldest));
  seen_.push_back({thread, race_->clock(thread), set, scope});
}

void ClusterOrder::learn(u32 thread, const KnownSetPtr& set, Scope scope) {
  for (size_t i = learned_.size(); i-- > 0;) {
    const Learned& l = learned_[i];
    if (l.set == set && l.scope >= scope && after(l.thread, l.clock, thread)) return;
  }
  constexpr size_t kMany = 32;
  if (learned_.size() >= kMany) fold_learned();
  learned_.push_back({thread, race_->clock(thread), set, scope});
  // By way of global memory threads of the same cluster learn of each other as well.
  for (const ClusterBounds& b : *set) {
    if (b.cluster != cluster_) continue;
    if (std::min(b.scope, scope) < (b.cta == rank(thread) ? kCtaScope : kClusterScope)) continue;
    Clocks clocks;
    race_->known_by(thread).expand(race_->width(), clocks.plain);
    if (at_least(clocks.plain, b.bounds->plain)) continue;
    clocks.plain = b.bounds->plain;
    race_->acquire(thread, clocks);
  }
}

// What all threads of the cluster know of is one.
void ClusterOrder::fold_learned() {
  const auto known = [&](const Learned& l) {
    return l.scope == kGpuScope && l.clock < race_->known_to_all();
  };
  Learned all;
  for (const Learned& l : learned_) {
    if (!known(l)) continue;
    all = {l.thread, std::max(all.clock, l.clock), merged(all.set, l.set), kGpuScope};
  }
  if (all.set == nullptr) return;
  std::erase_if(learned_, known);
  learned_.insert(learned_.begin(), all);
}

bool ClusterOrder::covers(const KnownSet& set, Scope scope, u32 cluster, u32 who, u32 clock,
                          bool proxied) const {
  auto it = std::lower_bound(set.begin(), set.end(), ClusterBounds{cluster, 0, kGpuScope, nullptr},
                             before);
  if (scope < kGpuScope || it == set.end() || it->cluster != cluster) return false;
  const std::vector<u32>& bounds = proxied ? it->bounds->proxied : it->bounds->plain;
  return who < bounds.size() && clock < bounds[who];
}

bool ClusterOrder::knows(u32 cluster, u32 who, u32 clock, u32 thread, bool proxied) const {
  const std::vector<u32>& forgiven = proxied ? forgiven_proxied_ : forgiven_;
  if (cluster < forgiven.size() && clock < forgiven[cluster]) return true;
  for (size_t i = learned_.size(); i-- > 0;) {
    const Learned& l = learned_[i];
    if (covers(*l.set, l.scope, cluster, who, clock, proxied) && after(l.thread, l.clock, thread))
      return true;
  }
  if (!proxied) return false;
  return std::any_of(proxy_fences_.begin(), proxy_fences_.end(), [&](const ProxyFence& f) {
    return f.others != nullptr && covers(*f.others, kGpuScope, cluster, who, clock, false) &&
           after(f.thread, f.clock, thread);
  });
}

bool ClusterOrder::shown(u32 who, u32 clock, u32 thread) const {
  return std::any_of(proxy_fences_.rbegin(), proxy_fences_.rend(), [&](const ProxyFence& f) {
    return f.known.covers(who, clock) && after(f.thread, f.clock, thread);
  });
}

void ClusterOrder::forgive(const std::vector<u32>& clocks, bool proxied) {
  Clocks::join(forgiven_, clocks.data(), clocks.size());
  if (proxied) Clocks::join(forgiven_proxied_, clocks.data(), clocks.size());
}

void ClusterOrder::forgive_own(u32 thread, u32 clock) {
  KnownClocks all = race_->known_by(thread);
  all.base = clock;
  proxy_fences_.push_back({thread, race_->clock(thread), std::move(all), nullptr});
}

void GlobalRaces::start(u64* table, u32 tag, u32 granule, bool parallel) {
  table_ = table;
  tag_ = tag;
  granule_ = granule;
  parallel_ = parallel;
}

GlobalRaces::Block& GlobalRaces::block(u64 number) {
  u64& entry = table_[number];
  u32 index = static_cast<u32>(entry);
  if (entry >> 32 != tag_) {
    const std::lock_guard lock(pool_mutex_);
    index = blocks_++;
    if (index % kChunk == 0) chunks_.push_back(std::make_unique<Block[]>(kChunk));
    entry = u64{tag_} << 32 | index;
    return chunks_[index / kChunk][index % kChunk];
  }
  if (!parallel_) return chunks_[index / kChunk][index % kChunk];
  const std::lock_guard lock(pool_mutex_);
  return chunks_[index / kChunk][index % kChunk];
}

GlobalAccess GlobalRaces::record(const Access& a) const {
  GlobalAccess r;
  r.cluster = a.order.cluster() + 1;
  r.clock = a.asynchronous ? a.operation : a.order.race().clock(a.thread);
  r.who = static_cast<u16>(a.thread);
  r.site = static_cast<u16>(a.site);
  r.scope = a.scope;
  r.asynchronous = a.asynchronous;
  return r;
}

// Whether the other access comes before. `proxied`: also by a proxy fence.
bool GlobalRaces::ordered(const Access& a, const GlobalAccess& other, bool& under_way,
                          bool& proxied) const {
  const ClusterOrder& order = a.order;
  const u32 cluster = other.cluster - 1;
  u32 who = other.who, clock = other.clock;
  if (other.asynchronous) {
    const Operation op = [&] {
      std::unique_lock lock(pool_mutex_, std::defer_lock);
      if (parallel_) lock.lock();
      return operations_[other.clock];
    }();
    under_way = op.clock == 0;
    if (under_way) return false;
    who = op.agent;
    clock = op.clock;
    proxied = true;
  }
  const auto one = [&](u32 thread) {
    if (cluster == order.cluster()) {
      if (!order.race().ordered_after(thread, clock, a.thread)) return false;
      proxied = proxied || !a.asynchronous || a.any_proxy || order.shown(thread, clock, a.thread);
      return true;
    }
    if (!order.knows(cluster, thread, clock, a.thread, false)) return false;
    proxied = proxied || !a.asynchronous || a.any_proxy ||
              order.knows(cluster, thread, clock, a.thread, true);
    return true;
  };
  if (!other.several) return one(who);
  for (u32 t = who / kLanes * kLanes; t < (who / kLanes + 1) * kLanes; ++t)
    if (one(t)) return true;
  return false;
}

bool GlobalRaces::conflict(const Access& a, const GlobalAccess& other, bool wrote,
                           GlobalReport& report) const {
  if (other.cluster == 0) return false;
  const bool own = other.cluster == a.order.cluster() + 1;
  if (own && other.who == a.thread && !other.asynchronous && !a.asynchronous) return false;
  const Scope needed = !own                                                ? kGpuScope
                       : a.order.rank(other.who) == a.order.rank(a.thread) ? kCtaScope
                                                                           : kClusterScope;
  if (std::min(a.scope, other.scope) >= needed) return false;
  bool under_way = false, proxied = false;
  if (ordered(a, other, under_way, proxied)) {
    // A read is no matter of proxies.
    if (proxied || !wrote) return false;
    report.found = report.proxy = true;
    report.wrote = wrote;
    report.other = other;
    return true;
  }
  report.found = true;
  report.wrote = wrote;
  report.under_way = under_way;
  report.other = other;
  return true;
}

// Nobody has written there: the latest reader of each sector.
void GlobalRaces::read_sectors(const Access& a, Block& block, u32 begin, u32 end) {
  GlobalAccess mine = record(a);
  mine.several = a.step != 0;
  for (u32 s = begin / kSector; s <= (end - 1) / kSector; ++s) {
    const u32 first = std::max(begin, s * kSector) % kSector / 4;
    const u32 last = (std::min(end, (s + 1) * kSector) - 1) % kSector / 4;
    const u8 words = static_cast<u8>((2u << last) - (1u << first));
    GlobalAccess& r = block.reads[s];
    if (r.cluster == mine.cluster && r.clock == mine.clock && !r.asynchronous &&
        !mine.asynchronous && r.who / kLanes == mine.who / kLanes) {
      r.words |= words;
      r.several = r.several || mine.several || r.who != mine.who;
      continue;
    }
    mine.words = words;
    r = mine;
  }
}

void GlobalRaces::make_cells(Block& b) const {
  b.cells = std::make_unique<Cell[]>(kBlock / granule_);
  for (u32 s = 0; s < kBlock / kSector; ++s) {
    if (b.reads[s].cluster == 0) continue;
    for (u32 at = 0; at < kSector; at += granule_)
      if ((b.reads[s].words >> (at / 4) & 1) != 0)
        b.cells[(s * kSector + at) / granule_].reads[0] = b.reads[s];
  }
}

GlobalReport GlobalRaces::access(const Access& a, u64 place, u32 bytes) {
  GlobalReport report;
  if (bytes == 0) return report;
  GlobalAccess mine = record(a);
  Access by = a;
  const u64 end = place + bytes;
  for (u64 number = place / kBlock; number <= (end - 1) / kBlock; ++number) {
    std::unique_lock lock(lock_of(number), std::defer_lock);
    if (parallel_) lock.lock();
    Block& b = block(number);
    const u64 base = number * kBlock;
    u32 from = static_cast<u32>(std::max(place, base) - base);
    u32 to = static_cast<u32>(std::min(end, base + kBlock) - base);
    if (b.cells == nullptr) {
      if (!a.write && from % 4 == 0 && to % 4 == 0) {  // sectors know words
        read_sectors(a, b, from, to);
        continue;
      }
      make_cells(b);
    }
    if (a.asynchronous) {  // granules at the ends that it shares with others are not judged
      from = static_cast<u32>(align_up(from, granule_));
      to = to / granule_ * granule_;
      if (from >= to) continue;
    }
    const u64 first = base - place;  // modulo 2^64: of the block, from the first thread's bytes on
    for (u32 i = from / granule_; i <= (to - 1) / granule_; ++i) {
      Cell& cell = b.cells[i];
      if (a.step != 0) {
        by.thread = a.thread + static_cast<u32>((first + std::max(i * granule_, from)) / a.step);
        mine.who = static_cast<u16>(by.thread);
      }
      const auto check = [&](const GlobalAccess& other, bool wrote) {
        if (other.cluster == 0 || report.found || !conflict(by, other, wrote, report)) return;
        report.thread = by.thread;
        report.place = base + i * granule_;
      };
      check(cell.write, true);
      if (!a.write) {
        GlobalAccess& latest = cell.reads[0];
        if (latest.cluster != 0 && (latest.cluster != mine.cluster || latest.who != mine.who))
          cell.reads[1] = latest;
        latest = mine;
        continue;
      }
      for (GlobalAccess& r : cell.reads) {
        check(r, false);
        r.cluster = 0;
      }
      // A weak write that the thread has just made is not hidden by a strong one.
      const bool again = cell.write.cluster == mine.cluster && cell.write.who == mine.who &&
                         cell.write.clock == mine.clock && !cell.write.asynchronous &&
                         !mine.asynchronous;
      if (again && cell.write.scope < mine.scope) continue;
      cell.write = mine;
    }
  }
  return report;
}

GlobalAccess GlobalRaces::latest_write(u64 place) {
  const Block& b = block(place / kBlock);
  return b.cells == nullptr ? GlobalAccess{} : b.cells[place % kBlock / granule_].write;
}

void GlobalRaces::flag_write(const Access& a, u64 place, u32 bytes, bool releases, bool atomic) {
  const KnownSetPtr set = a.order.released(a.thread, releases, a.scope);
  if (set == nullptr && flags_.empty()) return;
  for (u64 word = place / 4; word <= (place + bytes - 1) / 4; ++word) {
    const auto known = flags_.find(word);
    if (known == flags_.end() && set == nullptr) continue;
    Flag& flag = known == flags_.end() ? flags_[word] : known->second;
    // Atomics add to what was released before them, a store replaces it but for what its own thread
    // has released there.
    KnownSetPtr now = atomic ? merged(flag.set, set) : set;
    for (const Flag::Release& r : flag.releases)
      if (r.cluster == a.order.cluster() && r.thread == a.thread) now = merged(now, r.set);
    flag.set = now;
    if (releases) remember_release(flag, a, set);
  }
}

void GlobalRaces::remember_release(Flag& flag, const Access& a, const KnownSetPtr& set) const {
  constexpr size_t kMost = 8;
  std::erase_if(flag.releases, [&](const Flag::Release& r) {
    return r.cluster == a.order.cluster() && r.thread == a.thread;
  });
  if (flag.releases.size() >= kMost) flag.releases.erase(flag.releases.begin());
  flag.releases.push_back({a.order.cluster(), a.thread, set});
}

void GlobalRaces::flag_read(const Access& a, u64 place, u32 bytes, bool acquires) {
  if (flags_.empty()) return;
  for (u64 word = place / 4; word <= (place + bytes - 1) / 4; ++word) {
    const auto it = flags_.find(word);
    if (it != flags_.end() && it->second.set != nullptr)
      a.order.acquire(a.thread, it->second.set, acquires, a.scope);
  }
}

void GlobalRaces::cluster_starts(const ClusterOrder& order) {
  const std::lock_guard lock(pool_mutex_);
  running_[&order.race()] = order.cluster();
  if (started_.size() <= order.cluster()) started_.resize(size_t{order.cluster()} + 1);
  started_[order.cluster()] = true;
}

bool GlobalRaces::is_new(u32 site, u32 other_site) {
  const std::lock_guard lock(pool_mutex_);
  return told_.insert(std::minmax(site, other_site)).second;
}

std::vector<u32> GlobalRaces::clocks_now() {
  const std::lock_guard lock(pool_mutex_);
  std::vector<u32> out(started_.size());
  // One that has ended, or runs meanwhile: all.
  for (size_t c = 0; c < out.size(); ++c) out[c] = started_[c] ? ~0u - 1 : 0;
  for (const auto& [race, cluster] : running_)
    if (!parallel_) out[cluster] = race->top() + 1;
  return out;
}

u32 GlobalRaces::begin_operation() {
  const std::lock_guard lock(pool_mutex_);
  operations_.emplace_back();
  return static_cast<u32>(operations_.size() - 1);
}

void GlobalRaces::end_operation(u32 operation, u32 agent, u32 clock) {
  const std::lock_guard lock(pool_mutex_);
  operations_[operation] = {agent, clock};
}

}  // namespace vgpu
