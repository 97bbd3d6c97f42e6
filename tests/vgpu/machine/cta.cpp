#include "machine/cta.h"

#include <algorithm>

#include "common/error.h"
#include "machine/cluster.h"
#include "machine/launch.h"

namespace vgpu {

Cta::Cta(Cluster& k, u32 r, std::vector<PcCount>& c)
    : cluster(k), launch(k.launch), program(k.launch.program), counts(c), rank(r) {
  threads = launch.threads;
  shared_bytes = program.static_shared + launch.config.dynamic_shared;
  if (program.uses_reserved_shared) shared_base = 0;
  shared.resize(kSharedBase - shared_base + shared_bytes);
  shared_defined.resize(shared.size());
  for (u32 w = 0; w < (threads + kLanes - 1) / kLanes; ++w)
    warps.push_back(std::make_unique<Warp>(*this, w));
}

void Cta::start() {
  const auto& grid = launch.config.grid;
  linear = ctaid[0] + u64{grid[0]} * (ctaid[1] + u64{grid[1]} * ctaid[2]);
  live = threads;
  random = Random(launch.seed ^ (linear * 0x9e3779b97f4a7c15ull));
  std::fill(shared.begin(), shared.end(), u8{0xff});
  std::fill(shared_defined.begin(), shared_defined.end(), u8{0});
  cp_async.start(*this, random.next());
  mbarriers.start();
  wgmma.start(*this, random.next());
  registers.start(static_cast<u32>(warps.size()), launch_registers(program));
  barriers_ = {};
  for (auto& warp : warps) warp->start();
}

void Cta::thread_coords(const Warp& warp, int lane, u32 (&out)[3]) const {
  const u32 t = thread_index(warp, lane);
  const auto& block = launch.config.block;
  out[0] = t % block[0];
  out[1] = t / block[0] % block[1];
  out[2] = t / block[0] / block[1];
}

Cta::Status Cta::run(u64 budget) {
  u64 used = 0;
  while (used < budget) {
    if (live == 0) return Status::kDone;
    const u32 n = static_cast<u32>(warps.size());
    const u32 first = random.below(n);
    bool any = false;
    for (u32 i = 0; i < n && live != 0; ++i) {
      Warp& warp = *warps[(first + i) % n];
      if (warp.done() || !warp.ready()) continue;
      any = true;
      used += warp.run(std::min<u64>(8 + random.below(512), budget));
      if (cp_async.any()) cp_async.maybe_advance(*this);
      if (wgmma.any()) wgmma.maybe_advance(*this);
      if (cluster.bulk.any()) cluster.bulk.maybe_advance();
    }
    if (live == 0) return Status::kDone;
    if (!any) return Status::kBlocked;
  }
  return Status::kRunning;
}

bool Cta::ready() const {
  return live != 0 && std::any_of(warps.begin(), warps.end(),
                                  [](const auto& w) { return !w->done() && w->ready(); });
}

bool Cta::force_aligned() {
  bool forced = false;
  for (auto& warp : warps) forced = warp->force_aligned() || forced;
  return forced;
}
bool Cta::time_out() {
  bool any = false;
  for (auto& warp : warps) any = warp->time_out() || any;
  return any;
}
void Cta::wake_waiting(u32 barrier) {
  for (auto& warp : warps) warp->wake_waiting(barrier);
  ++cluster.events;
}
void Cta::deadlock(const std::string& who_waits) {
  for (auto& warp : warps) {
    if (warp->done()) continue;
    const Group& g = warp->groups().front();
    const Instr& in = warp->at(g.state == Group::State::kBarrier ? g.pc - 1 : g.pc);
    warp->fault(kFaultLaunchTimeout, FindingKind::kDeadlock, in, std::countr_zero(g.mask),
                "every thread waits: " + who_waits);
  }
}

std::string Cta::who_waits() const {
  std::string out;
  for (const auto& warp : warps) {
    if (warp->done()) continue;
    if (out.size() > 1500) return out + " ...";
    out += (out.empty() ? "" : "; ") + std::string("warp ") + std::to_string(warp->index()) + ": " +
           warp->waiting_for();
  }
  for (size_t i = 0; i < barriers_.size(); ++i) {
    const NamedBarrier& b = barriers_[i];
    if (!b.active) continue;
    const u32 wanted = b.expected == 0 ? live : b.expected;
    out += "; barrier " + std::to_string(i) + " has " + std::to_string(b.arrived) + " of " +
           std::to_string(wanted) + " threads";
  }
  return out;
}

void Cta::arrive(Warp& warp, const Instr& in, u32 mask, u32 index, u32 expected, bool waits,
                 u32 pred_mask) {
  NamedBarrier& b = barriers_[index];
  const int lead = std::countr_zero(mask);
  if (!b.active) {
    b.active = true;
    b.expected = expected;
  } else if (b.expected != expected) {
    warp.report(FindingKind::kBarrierMisuse, in, lead,
                "barrier " + std::to_string(index) + " is awaited with thread count " +
                    std::to_string(expected) + " here and " + std::to_string(b.expected) +
                    " elsewhere");
  }
  if (expected == 0 && live != threads) {
    warp.report(FindingKind::kBarrierExited, in, lead,
                std::to_string(threads - live) + " of " + std::to_string(threads) +
                    " threads exited without reaching this barrier");
  }
  // An aligned barrier with a count counts whole warps.
  b.arrived += expected != 0 && in.flag ? kLanes : static_cast<u32>(std::popcount(mask));
  for_each_lane(mask, [&](int lane) {
    b.participants.push_back(thread_index(warp, lane));
    if (waits) {
      b.waiters.push_back(thread_index(warp, lane));
    } else {
      race.release(thread_index(warp, lane), b.released);
    }
  });
  b.count_pred += static_cast<u32>(std::popcount(pred_mask));
  b.any_pred = b.any_pred || pred_mask != 0;
  b.all_pred = b.all_pred && pred_mask == mask;
  const u32 wanted = b.expected == 0 ? live : b.expected;
  if (b.arrived > wanted) {
    warp.report(FindingKind::kBarrierMisuse, in, lead,
                "barrier " + std::to_string(index) + " got " + std::to_string(b.arrived) +
                    " arrivals for a count of " + std::to_string(wanted));
  }
  if (b.arrived >= wanted) complete(index);
}

void Cta::complete(u32 index) {
  NamedBarrier finished = std::move(barriers_[index]);
  barriers_[index] = NamedBarrier{};
  if (finished.waiters.size() == threads) {
    race.barrier_all();
  } else {
    race.barrier_some(finished.waiters, finished.released);
  }
  red_ = {finished.count_pred, finished.all_pred, finished.any_pred};
  static const Instr kReduce{};
  for (auto& warp : warps) warp->wake_barrier(index, &kReduce);
  ++cluster.events;
}

void Cta::lanes_exited(u32 count, u32 arrived) {
  live -= count;
  for (u32 i = 0; i < count; ++i) cluster.thread_exited(i < arrived);
  if (live == 0) {
    cluster.bulk.exited(*this);
    return;
  }
  for (u32 i = 0; i < barriers_.size(); ++i) {
    NamedBarrier& b = barriers_[i];
    if (!b.active || b.expected != 0) continue;
    if (!b.participants.empty()) {
      const u32 thread = b.participants.front();
      Warp& warp = *warps[thread / kLanes];
      for (const Group& g : warp.groups()) {
        if (g.state == Group::State::kBarrier && g.barrier == i) {
          warp.report(FindingKind::kBarrierExited, warp.at(g.pc - 1), std::countr_zero(g.mask),
                      std::to_string(threads - live) + " of " + std::to_string(threads) +
                          " threads exited without reaching this barrier");
          break;
        }
      }
    }
    if (b.arrived >= live) complete(i);
  }
}

}  // namespace vgpu
