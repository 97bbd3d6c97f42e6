// Where the lanes of a warp wait: for each other, at mbarriers, at the cluster's barrier.
#include <algorithm>
#include <cstdio>
#include <utility>

#include "machine/cta.h"
#include "machine/warp.h"

namespace vgpu {

// `.aligned`: all lanes of the warp must be here. Lanes still on their way are waited for.
bool Warp::aligned(Group& g, const Instr& in) {
  for (Group& other : groups_) {
    if (&other != &g && other.state == Group::State::kAligned && other.pc == g.pc &&
        other.frame == g.frame) {
      g.mask |= other.mask;
      other.mask = 0;
    }
  }
  if (g.mask == live_ || g.forced) {
    const bool forced = g.forced;
    g.forced = false;
    if (forced && g.mask != live_) {
      report(FindingKind::kDivergence, in, std::countr_zero(g.mask),
             "the warp is divergent at an instruction that all its threads must execute together");
    }
    const bool absorbed =
        std::any_of(groups_.begin(), groups_.end(), [](const Group& x) { return x.mask == 0; });
    if (!absorbed) return true;
    // The group's lanes changed: run it again with all of them.
    g.forced = forced;
    std::erase_if(groups_, [](const Group& x) { return x.mask == 0; });
    return false;
  }
  g.state = Group::State::kAligned;
  std::erase_if(groups_, [](const Group& x) { return x.mask == 0; });
  return false;
}

// A wait that fails blocks at once when it is one that may (Instr::blocks), and otherwise when the
// group does little else than to try again. It goes on when the barrier's phase is complete, or
// when time passes in which nothing else happens.
bool Warp::wait(Group& g, const Instr& in, u32 mask) {
  in_vain_ = 0;
  in.fn(*this, in, mask);
  if (in_vain_ == 0) {
    g.timed_out = false;
    return true;
  }
  constexpr u64 kSpin = 64;  // instructions
  const bool spins = g.tried == g.pc && clock_ - g.tried_at < kSpin;
  g.tried = g.pc;
  g.tried_at = clock_;
  PcCount& count = cta_->counts[g.pc];
  if ((in.blocks || spins) && !g.timed_out) {
    // It counts when it is through.
    --count.warps;
    count.lanes -= static_cast<u64>(std::popcount(mask));
    ++count.blocked;
    g.state = Group::State::kWait;
    g.barrier = awaited_;
    return false;
  }
  g.timed_out = false;
  if (groups_.size() > 1) since_switch_ = kPatience;  // other lanes first, next time
  ++g.pc;
  return false;
}

bool Warp::time_out() {
  bool any = false;
  for (Group& g : groups_) {
    if (g.state != Group::State::kWait) continue;
    g.state = Group::State::kReady;
    g.timed_out = any = true;
  }
  return any;
}

void Warp::wake_waiting(u32 barrier) {
  for (Group& g : groups_)
    if (g.state == Group::State::kWait && g.barrier == barrier) g.state = Group::State::kReady;
}

// Whether the aligned instruction that has just run is to run again later.
bool Warp::parks(Group& g, u32 mask) {
  retries_ = std::exchange(parks_, false);
  if (!retries_) return false;
  // It counts when it is through.
  PcCount& count = cta_->counts[g.pc];
  --count.warps;
  count.lanes -= static_cast<u64>(std::popcount(mask));
  ++count.blocked;
  g.state = Group::State::kPark;
  return true;
}

void Warp::unpark() {
  for (Group& g : groups_)
    if (g.state == Group::State::kPark) g.state = Group::State::kReady;
}

bool Warp::force_aligned() {
  bool any = false;
  for (Group& g : groups_) {
    if (g.state != Group::State::kAligned) continue;
    g.state = Group::State::kReady;
    g.forced = true;
    any = true;
  }
  return any;
}

std::string Warp::waiting_at(u32 barrier) const {
  return barrier == kClusterBarrier ? " at the cluster's barrier"
                                    : " at " + cta_->mbarriers.describe(barrier);
}

std::string Warp::waiting_for() const {
  std::string out;
  for (const Group& g : groups_) {
    const Instr& in = at(g.state == Group::State::kBarrier ? g.pc - 1 : g.pc);
    char lanes[16];
    std::snprintf(lanes, sizeof lanes, "%08x", g.mask);
    out += (out.empty() ? "" : "; ");
    out += "lanes " + std::string(lanes) +
           (g.state == Group::State::kBarrier      ? " at barrier " + std::to_string(g.barrier)
            : g.state == Group::State::kCollective ? " for other lanes of the member mask"
            : g.state == Group::State::kAligned    ? " for the rest of the warp"
            : g.state == Group::State::kWait       ? waiting_at(g.barrier)
            : g.state == Group::State::kPark       ? parked_for_
                                                   : " ready");
    const std::string source = program_->source_of(in);
    out += " (line " + std::to_string(in.line) + (source.empty() ? "" : ", " + source) + ")";
  }
  return out;
}

}  // namespace vgpu
