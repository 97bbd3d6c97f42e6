#include "machine/cluster.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "machine/launch.h"

namespace vgpu {
namespace {

// Times that waits may run out with nothing happening before that is called a deadlock.
constexpr u32 kIdleRounds = 16, kIdleRoundsAmongOthers = 4096;
constexpr u32 kAgentsPerCta = 64;

}  // namespace

Cluster::Cluster(Launch& l, std::vector<PcCount>& counts) : launch(l) {
  const auto& dims = l.config.cluster;
  for (u32 rank = 0; rank < dims[0] * dims[1] * dims[2]; ++rank)
    ctas.push_back(std::make_unique<Cta>(*this, rank, counts));
}

void Cluster::start(u64 cluster_index) {
  index = cluster_index;
  const auto& grid = launch.config.grid;
  const auto& dims = launch.config.cluster;
  const u64 across = grid[0] / dims[0], down = grid[1] / dims[1];
  id[0] = static_cast<u32>(index % across);
  id[1] = static_cast<u32>(index / across % down);
  id[2] = static_cast<u32>(index / across / down);
  random_ = Random(launch.seed ^ (index * 0xd1342543de82ef95ull));
  bulk.start(random_.next());
  arrived_ = phase_ = 0;
  idle_rounds_ = 0;
  progress_ = {};
  arriving_.clear();
  released_.clear();
  live_ = size() * launch.threads;
  const Cta& first = *ctas.front();
  const u32 threads =
      size() == 1 ? launch.threads : static_cast<u32>(align_up(launch.threads, kLanes));
  const u32 bytes = static_cast<u32>(align_up(first.shared.size(), 1024));
  race.start(bytes * size(), launch.program.shared_granule, threads * size(),
             launch.program.uses_async_proxy ? kAgentsPerCta * size() : 0);
  grid_waits.start(race);
  order.start(race, static_cast<u32>(index), threads);
  launch.races.cluster_starts(order);
  launched_dependents_ = false;
  for (u32 rank = 0; rank < size(); ++rank) {
    Cta& cta = *ctas[rank];
    cta.race.start(race, rank * threads, rank * bytes, size() == 1, launch.threads);
    const u32 at[3] = {rank % dims[0], rank / dims[0] % dims[1], rank / dims[0] / dims[1]};
    for (int i = 0; i < 3; ++i) {
      cta.cluster_ctaid[i] = at[i];
      cta.ctaid[i] = id[i] * dims[i] + at[i];
    }
    cta.start();
  }
}

Cta::Status Cluster::run(u64 budget) {
  const Cta::Status status = size() == 1 ? ctas.front()->run(budget) : run_all(budget);
  if (status == Cta::Status::kDone) bulk.drain();
  // Threads that wait for a copy may not have all others wait with them.
  if (status == Cta::Status::kRunning) bulk.advance();
  return status;
}

Cta::Status Cluster::run_all(u64 budget) {
  u32 rounds = static_cast<u32>(budget / 2048) + 1;
  for (; rounds != 0; --rounds) {
    const u32 first = random_.below(size());
    bool done = true, blocked = true;
    for (u32 i = 0; i < size(); ++i) {
      Cta& cta = *ctas[(first + i) % size()];
      if (cta.live == 0) continue;
      const Cta::Status status = cta.run(std::min<u64>(64 + random_.below(4096), budget));
      done = done && status == Cta::Status::kDone;
      blocked = blocked && status != Cta::Status::kRunning;
    }
    if (done) return Cta::Status::kDone;
    // A CTA that ran late may have let go on one that was found blocked before.
    if (blocked && std::none_of(ctas.begin(), ctas.end(), [](const auto& c) { return c->ready(); }))
      return live_ == 0 ? Cta::Status::kDone : Cta::Status::kBlocked;
  }
  return Cta::Status::kRunning;
}

bool Cluster::only_waited() {
  Progress now{0, order.writes, order.vain_reads, events};
  for (const auto& cta : ctas)
    for (const auto& warp : cta->warps) now.instructions += warp->executed();
  const Progress before = std::exchange(progress_, now);
  constexpr u64 kSpin = 64;  // instructions of a loop that waits
  return now.writes == before.writes && now.events == before.events &&
         now.instructions - before.instructions <= kSpin * (now.vain_reads - before.vain_reads);
}

void Cluster::report_spin(FindingKind kind, const std::string& message) {
  for (const auto& cta : ctas) {
    for (const auto& warp : cta->warps) {
      for (const Group& g : warp->groups()) {
        const int lane = std::countr_zero(g.mask);
        const auto& spin = order.spin(cta->race.thread(cta->thread_index(*warp, lane)));
        if (spin.times != 0)
          warp->fault(kFaultLaunchTimeout, kind, cta->program.code[spin.site], lane, message);
      }
    }
  }
  Warp& warp = *ctas.front()->warps.front();
  warp.fault(kFaultLaunchTimeout, kind, warp.at(warp.groups().empty() ? 0 : warp.groups()[0].pc), 0,
             message);
}

void Cluster::resolve_block(bool alone) {
  if (bulk.advance()) {
    ++events;  // copies that arrive are progress, however many are awaited
    return;
  }
  if (events != seen_events_) idle_rounds_ = 0;
  seen_events_ = events;
  bool resolved = false;
  for (auto& cta : ctas) resolved = cta->force_aligned() || resolved;
  if (resolved) return;
  if (++idle_rounds_ <= (alone ? kIdleRounds : kIdleRoundsAmongOthers)) {
    for (auto& cta : ctas) resolved = cta->time_out() || resolved;
    if (resolved) return;
  }
  for (auto& cta : ctas) cta->deadlock(who_waits());
}

std::string Cluster::who_waits() const {
  std::string out;
  for (const auto& cta : ctas) {
    if (cta->live == 0) continue;
    if (out.size() > 1500) return out + " ...";
    if (!out.empty()) out += "; ";
    if (size() > 1) out += "CTA " + std::to_string(cta->rank) + ": ";
    out += cta->who_waits();
  }
  if (arrived_ != 0)
    out += "; the cluster's barrier has " + std::to_string(arrived_) + " of " +
           std::to_string(live_) + " threads";
  return out;
}

Cta* Cluster::owner(u64& address) {
  const u64 rank = address / Cta::kWindowBytes;
  if (rank >= size()) return nullptr;
  address %= Cta::kWindowBytes;
  return ctas[rank].get();
}

void Cluster::arrive(Warp& warp, u32 mask, bool releases) {
  Cta& cta = warp.cta();
  for_each_lane(mask, [&](int lane) {
    const u32 thread = cta.thread_index(warp, lane);
    releases ? cta.race.release(thread, arriving_) : cta.race.release_fenced(thread, arriving_);
  });
  arrived_ += static_cast<u32>(std::popcount(mask));
  if (arrived_ >= live_) complete();
}

void Cluster::complete() {
  arrived_ = 0;
  ++phase_;
  released_.join(arriving_);
  arriving_.clear();
  ++events;
  for (auto& cta : ctas) cta->wake_waiting(kClusterBarrier);
}

void Cluster::launch_dependents() {
  if (std::exchange(launched_dependents_, true)) return;
  launch.launch_dependents();
  if (grid_waits.any()) launch.has_waited();
}

void Cluster::thread_exited(bool arrived) {
  --live_;
  if (arrived) --arrived_;
  if (live_ == 0 && !launched_dependents_ && grid_waits.any()) launch.has_waited();
  ++events;
  if (live_ != 0 && arrived_ != 0 && arrived_ >= live_) complete();
}

}  // namespace vgpu
