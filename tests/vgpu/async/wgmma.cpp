#include "async/wgmma.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "machine/access.h"
#include "machine/cluster.h"
#include "machine/cta.h"
#include "machine/launch.h"

namespace vgpu {
namespace {

// Never 0.
u32 shape_of(const Instr& in) {
  return u32{in.sub} << 16 | u32{in.sub2} << 8 | elements_per_unit(in.type);
}

}  // namespace

void Wgmma::start(Cta& cta, u64 seed) {
  warps_.clear();
  groups_.clear();
  tiles_.clear();
  random_ = Random(seed);
  open_ = 0;
  policy_ = cta.launch.asynchrony(random_.next());
}

Wgmma::WarpState& Wgmma::state(Warp& w) {
  if (warps_.empty()) warps_.resize(w.cta().warps.size());
  WarpState& s = warps_[w.index()];
  if (s.uses.empty()) s.uses.resize(w.slots());
  return s;
}
Wgmma::Group& Wgmma::group(const Warp& w) {
  const size_t i = w.index() / kWgmmaWarps;
  if (groups_.size() <= i) groups_.resize(i + 1);
  return groups_[i];
}

bool Wgmma::step(Warp& w, const Instr& in, u32 mask, const std::array<u64, 3>& what) {
  const u32 first = w.index() / kWgmmaWarps * kWgmmaWarps;
  const int lane = std::countr_zero(mask);
  if ((first + kWgmmaWarps) * kLanes > w.cta().threads) {
    w.report(FindingKind::kWarpgroup, in, lane,
             "warp " + std::to_string(w.index()) + " is of no complete warpgroup: the CTA has " +
                 std::to_string(w.cta().threads) + " threads");
    return false;
  }
  if (mask != kAllLanes) {
    // A warp that is divergent here has been told of.
    if (mask == w.live())
      w.report(FindingKind::kWarpgroup, in, lane, "some lanes of the warp have exited");
    return false;
  }
  WarpState& s = state(w);
  for (u32 i = first; i < first + kWgmmaWarps; ++i) w.cta().warps[i]->unpark();
  ++w.cta().cluster.events;
  Group& g = group(w);
  const u64 number = s.steps++;
  if (number < g.first_step + g.steps.size()) {
    const Step& other = g.steps[number - g.first_step];
    if (other.in != &in) {
      w.report(FindingKind::kWarpgroup, in, lane,
               "another warp of the warpgroup executes the instruction of PTX line " +
                   std::to_string(other.in->line) + " instead");
    } else if (other.what != what) {
      w.report(FindingKind::kWarpgroup, in, lane,
               "operands differ from those of another warp of the warpgroup");
    }
  } else {
    g.steps.push_back({&in, what});
  }
  u64 slowest = s.steps;
  for (u32 i = first; i < first + kWgmmaWarps; ++i)
    slowest = std::min(slowest, i < warps_.size() ? warps_[i].steps : 0);
  for (; g.first_step < slowest; ++g.first_step) g.steps.pop_front();
  return true;
}

void Wgmma::fence(Warp& w) {
  WarpState& s = state(w);
  ++s.epoch;
  s.fence_clock = w.cta().race.tracker().tick_warp(w.cta().race.thread(0) / kLanes + w.index());
  s.stores.reset();
}

// What the warp's threads had stored before the latest wgmma.fence and have shown until now.
void Wgmma::note_stores(Warp& w, WarpState& s) {
  const RaceTracker& race = w.cta().race.tracker();
  if (s.stores != nullptr && s.proxy_fences == race.proxy_fences()) return;
  s.proxy_fences = race.proxy_fences();
  Stores stores{};
  const u32 first = w.cta().race.thread(w.cta().thread_index(w, 0));
  for (u32 lane = 0; lane < kLanes; ++lane)
    stores[lane] = std::min(s.fence_clock, race.own_proxied(first + lane));
  if (s.stores == nullptr || *s.stores != stores) s.stores = std::make_shared<const Stores>(stores);
}

u64 Wgmma::issued_by_all(u32 warp) const {
  const u32 first = warp / kWgmmaWarps * kWgmmaWarps;
  u64 least = ~u64{0};
  for (u32 i = first; i < first + kWgmmaWarps; ++i)
    least = std::min(least, i < warps_.size() ? warps_[i].issued : 0);
  return least;
}

void Wgmma::perform_issued(Cta& cta, u32 warp) {
  const u32 first = warp / kWgmmaWarps * kWgmmaWarps;
  const u64 issued = issued_by_all(warp);
  for (u32 i = first; i < first + kWgmmaWarps; ++i)
    while (warps_[i].finished < issued) perform(*cta.warps[i], warps_[i]);
}

// All warps have issued this one: now it reads. With what all of them have shown, is it in order?
void Wgmma::issued_by_last(Warp& w, u64 number) {
  Cta& cta = w.cta();
  const RaceTracker& race = cta.race.tracker();
  const u32 first = w.index() / kWgmmaWarps * kWgmmaWarps;
  bool any = false;
  std::array<Share*, kWgmmaWarps> shares{};
  for (u32 i = 0; i < kWgmmaWarps; ++i) {
    WarpState& s = warps_[first + i];
    if (number < s.waited) continue;
    shares[i] = &s.shares[number - s.waited];
    any = any || shares[i]->look_again || shares[i]->writes != race.writes();
  }
  ShownStores shown;
  shown.first_thread = cta.race.thread(first * kLanes);
  for (u32 i = 0; any && i < kWgmmaWarps; ++i)
    if (shares[i] != nullptr)
      std::copy(shares[i]->stores->begin(), shares[i]->stores->end(),
                shown.below.begin() + i * kLanes);
  for (u32 i = 0; i < kWgmmaWarps; ++i) {
    if (shares[i] == nullptr) continue;
    Share& x = *shares[i];
    shown.issued = x.clock;
    for (const Place* p : {x.a, x.quarter}) {
      if (p == nullptr) continue;
      const RaceReport report =
          any ? cta.race.look_again(x.operation, p->blocks, shown) : RaceReport{};
      cta.race.remember_reads(x.operation, p->blocks);
      if (!report.found) continue;
      report_race(*cta.warps[first + i], *x.in, 0, p->units.front(), false, report);
      cta.race.tracker().forgive(shown.first_thread, kWgmmaWarps * kLanes);
    }
  }
}

// Findings about the registers of a wgmma that is issued now.
void Wgmma::check_registers(Warp& w, WarpState& s, const Instr& in) {
  if (s.epoch == 0) {
    w.report(FindingKind::kWgmmaFence, in, 0, "no wgmma.fence before the first wgmma of the warp");
    s.epoch = 1;
  }
  const u32 accumulators = wgmma_accumulators(in);
  const Operand* const registers = wgmma_registers(w, in);
  const u32 shape = shape_of(in);
  for (u32 i = 0; i < in.pool_count; ++i) {
    const Use& use = s.uses[registers[i].id];
    const u32 role = i < accumulators ? shape : 0;
    if ((use.role == role || (use.flying == 0 && use.used != s.epoch)) && use.touched != s.epoch)
        [[likely]]
      continue;
    const std::string name = i < accumulators
                                 ? "accumulator register " + std::to_string(i)
                                 : "register " + std::to_string(i - accumulators) + " of A";
    if (use.flying != 0 && (use.role == 0) != (role == 0)) {
      w.report(FindingKind::kWgmmaRegister, in, 0,
               name + " belongs to a wgmma in flight, as " +
                   (role == 0 ? "an accumulator" : "a fragment of A"));
      return;
    }
    if (use.used == s.epoch && use.role != role) {
      w.report(FindingKind::kWgmmaFence, in, 0,
               name + " was used by a wgmma of another shape, without a wgmma.fence since");
      ++s.epoch;  // one missing fence is one finding
      return;
    }
    if (use.touched == s.epoch) {
      w.report(FindingKind::kWgmmaFence, in, 0,
               name + " was accessed by another instruction, without a wgmma.fence since");
      ++s.epoch;
      return;
    }
  }
}

void Wgmma::issue(Warp& w, const Instr& in, u64 a, u64 b, bool scale_d) {
  WarpState& s = state(w);
  check_registers(w, s, in);
  const Operand* const registers = wgmma_registers(w, in);
  const u32 accumulators = wgmma_accumulators(in), shape = shape_of(in);
  for (u32 i = 0; i < in.pool_count; ++i) {
    const Operand& o = registers[i];
    Use& use = s.uses[o.id];
    use.used = s.epoch;
    use.role = i < accumulators ? shape : 0;
    if (use.flying++ != 0 || i >= accumulators) continue;
    if (scale_d && w.undef(o) != 0) {
      auto& bytes = s.undefined[o.id];
      for (int l = 0; l < kLanes; ++l)
        bytes[static_cast<size_t>(l)] = static_cast<u8>(w.undef_of(o, l));
    }
    w.undef(o) = kAllLanes;
    std::memset(w.undef_bytes(o), 0xff, kLanes);
  }
  constexpr size_t kPlaces = 4096;
  if (open_++ == 0 && places_.size() > kPlaces) places_.clear();
  s.shares.emplace_back();
  s.shares.back().in = &in;
  s.shares.back().scale_d = scale_d;
  begin_reads(w, s.shares.back(), a, b);
  ++s.issued;
  if (issued_by_all(w.index()) == s.issued) issued_by_last(w, s.issued - 1);
  if (policy_ == Asynchrony::kEarly || (policy_ == Asynchrony::kAny && random_.below(4) == 0))
    perform_issued(w.cta(), w.index());
}

void Wgmma::commit(Warp& w) {
  WarpState& s = state(w);
  s.groups.push_back(s.issued);
}

bool Wgmma::wait(Warp& w, const Instr& in, u32 pending) {
  WarpState& s = state(w);
  if (s.groups.size() <= pending) return true;
  const u64 target = s.groups[s.groups.size() - 1 - pending];
  const u32 first = w.index() / kWgmmaWarps * kWgmmaWarps;
  const u32 end = std::min(first + kWgmmaWarps, static_cast<u32>(warps_.size()));
  for (u32 i = first; i < first + kWgmmaWarps; ++i) {
    const bool missing = i >= end || warps_[i].issued < target;
    if (missing && !w.cta().warps[i]->done()) return false;
    if (missing)
      w.report(FindingKind::kWarpgroup, in, 0,
               "warp " + std::to_string(i) + " exited without issuing this wgmma group");
  }
  // Share by share, so that the four warps find each tile of B converted.
  u64 next = target;
  for (u32 i = first; i < end; ++i) next = std::min(next, warps_[i].finished);
  for (; next < target; ++next)
    for (u32 i = first; i < end; ++i)
      if (warps_[i].finished == next && next < warps_[i].issued)
        perform(*w.cta().warps[i], warps_[i]);
  for (u32 i = first; i < end; ++i)
    while (warps_[i].ended < std::min(target, warps_[i].issued)) end_reads(w.cta(), warps_[i]);
  const u32 agent = w.cta().race.agent(kWarpgroupAgent + w.index() / kWgmmaWarps);
  w.cta().race.learn_agent(w.cta().thread_index(w, 0), agent);
  while (s.waited < target) retire(w, s);
  s.groups.erase(s.groups.begin(), s.groups.end() - pending);
  return true;
}

// The oldest share of the warp has been waited for: its registers are ordinary again.
void Wgmma::retire(Warp& w, WarpState& s) {
  const Instr& in = *s.shares.front().in;
  const u32 accumulators = wgmma_accumulators(in);
  for (u32 i = 0; i < in.pool_count; ++i) {
    const Operand& o = wgmma_registers(w, in)[i];
    if (--s.uses[o.id].flying != 0 || i >= accumulators) continue;
    w.set_defined(o, kAllLanes);
    if (s.undefined.empty()) continue;
    const auto it = s.undefined.find(o.id);
    if (it == s.undefined.end()) continue;
    for (int l = 0; l < kLanes; ++l) w.set_undef(o, l, it->second[static_cast<size_t>(l)]);
    s.undefined.erase(it);
  }
  s.shares.pop_front();
  ++s.waited;
}

void Wgmma::touch(Warp& w, const Instr& in, const std::vector<u32>& registers, bool move) {
  WarpState& s = state(w);
  for (u32 id : registers) {
    Use& use = s.uses[id];
    if (use.flying != 0) {
      std::string line;
      u64 number = s.waited, latest = 0;
      for (const Share& share : s.shares) {
        ++number;
        for (u32 i = 0; i < share.in->pool_count; ++i) {
          if (wgmma_registers(w, *share.in)[i].id != id) continue;
          if (line.empty()) line = std::to_string(share.in->line);
          latest = number;
        }
      }
      if (latest > std::exchange(s.told, std::max(s.told, s.issued)))
        w.report(FindingKind::kWgmmaRegister, in, 0,
                 std::string("a register of a wgmma in flight is accessed: ") +
                     (use.role == 0 ? "a fragment of A" : "an accumulator") + " of PTX line " +
                     line);
    }
    if (!move || use.used == s.epoch) use.touched = s.epoch;
  }
}

void Wgmma::warp_exited(Warp& w, const Instr& in) {
  const u32 first = w.index() / kWgmmaWarps * kWgmmaWarps;
  if (first >= warps_.size() || first + kWgmmaWarps > w.cta().warps.size()) return;
  WarpState& s = state(w);
  for (u32 i = first; i < first + kWgmmaWarps; ++i) {
    Warp& other = *w.cta().warps[i];
    other.unpark();
    if (i == w.index() || !other.done()) continue;
    const u64 steps = i < warps_.size() ? warps_[i].steps : 0;
    if (steps == s.steps) continue;
    w.report(FindingKind::kWarpgroup, in, 0,
             "the warp executed " + std::to_string(s.steps) +
                 " instructions of its warpgroup (wgmma, setmaxnreg), warp " + std::to_string(i) +
                 " executed " + std::to_string(steps));
    break;
  }
  if (!s.shares.empty()) {
    w.report(FindingKind::kPendingAtExit, in, 0,
             std::to_string(s.shares.size()) + " wgmma are in flight when the warp exits");
    open_ -= static_cast<u64>(
        std::count_if(s.shares.begin(), s.shares.end(), [](const Share& x) { return !x.done; }));
    while (s.ended < s.issued) end_reads(w.cta(), s);
    s.shares.clear();
    s.finished = s.waited = s.issued;
  }
}

void Wgmma::maybe_advance(Cta& cta) {
  if (policy_ != Asynchrony::kAny || random_.below(2) == 0) return;
  const u32 i = random_.below(static_cast<u32>(warps_.size()));
  WarpState& s = warps_[i];
  if (s.finished < issued_by_all(i)) perform(*cta.warps[i], s);
}

}  // namespace vgpu
