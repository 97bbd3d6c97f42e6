// The race check of accesses to global memory, and waits of one CTA for another: see
// check/global_race.h.
#include <algorithm>

#include "common/hex.h"
#include "machine/access.h"
#include "machine/cluster.h"
#include "machine/cta.h"
#include "machine/launch.h"

namespace vgpu {
namespace {

std::string cta_name(const Launch& launch, u32 cluster, u32 rank) {
  const auto& grid = launch.config.grid;
  const auto& dims = launch.config.cluster;
  const u32 across = grid[0] / dims[0], down = grid[1] / dims[1];
  const u32 x = cluster % across * dims[0] + rank % dims[0];
  const u32 y = cluster / across % down * dims[1] + rank / dims[0] % dims[1];
  const u32 z = cluster / across / down * dims[2] + rank / dims[0] / dims[1];
  return "CTA (" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + ")";
}

}  // namespace

void report_global_race(Warp& w, const Instr& in, int lane, bool write, const GlobalReport& r) {
  Cta& cta = w.cta();
  const Launch& launch = cta.launch;
  const u32 per_cta = cta.race.tracker().threads() / cta.cluster.size();
  const u32 rank = r.other.who / per_cta, thread = r.other.who % per_cta;
  u32 coords[3];
  cta.thread_coords(*cta.warps[thread / kLanes], static_cast<int>(thread % kLanes), coords);
  const std::string action = write ? "write" : "read";
  const bool own = r.other.cluster == cta.cluster.order.cluster() + 1 && rank == cta.rank;
  std::string other =
      std::string("the ") + (r.wrote ? "write" : "read") + " by " +
      (r.other.asynchronous ? "the asynchronous operation of thread (" : "thread (") +
      std::to_string(coords[0]) + "," + std::to_string(coords[1]) + "," +
      std::to_string(coords[2]) + ")" +
      (own ? "" : " of " + cta_name(launch, r.other.cluster - 1, rank));
  if (cta.program.code.size() <= 0x10000)
    other += " at PTX line " + std::to_string(cta.program.code[r.other.site].line);
  const std::string what =
      action + " of global memory at " + hex(launch.machine.memory.address_of(r.place));
  std::string text = what + " is not ordered against " + other;
  if (r.proxy) text = what + " by the asynchronous proxy lacks a fence.proxy.async after " + other;
  if (r.under_way) text += ", which need not be complete";
  if (cta.launch.races.is_new(in.site & 0xffff, r.other.site))
    w.report(r.proxy ? FindingKind::kProxy : FindingKind::kGlobalRace, in, lane, text);
  ClusterOrder& order = cta.cluster.order;
  const u32 cluster = r.other.cluster - 1;
  const u32 own_thread = cta.race.thread(cta.thread_index(w, lane));
  GlobalRaces& races = cta.launch.races;
  if (r.under_way)
    races.end_operation(r.other.clock, own_thread, cta.race.tracker().clock(own_thread));
  if (cluster != order.cluster()) {
    order.forgive(races.clocks_now(), r.proxy);
  } else if (r.proxy) {
    order.forgive_own(own_thread, races.clocks_now()[cluster]);
  }
}

void check_global(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes,
                  bool write, const Allocation& a) {
  if (a.read_only || a.place == Allocation::kNoPlace) return;
  Cta& cta = w.cta();
  ClusterOrder& order = cta.cluster.order;
  GlobalRaces& races = cta.launch.races;
  const RaceTracker& race = cta.race.tracker();
  const u32 first = cta.race.thread(w.index() * kLanes);
  GlobalRaces::Access access{order};
  access.site = in.site;
  access.scope = static_cast<Scope>(in.scope);
  access.write = write;
  for (u32 left = mask; left != 0;) {
    // Neighbours that access neighbouring bytes, or read the same, in one go.
    const int lane = std::countr_zero(left);
    int end = lane + 1;
    const u32 clock = race.clock(first + static_cast<u32>(lane));
    const u64 step = end < kLanes && !write && address[end] == address[lane] ? 0 : bytes;
    while (end < kLanes && (left >> end & 1) != 0 && address[end] == address[end - 1] + step &&
           race.clock(first + static_cast<u32>(end)) == clock)
      ++end;
    const u32 count = static_cast<u32>(end - lane);
    left &= ~((count == kLanes ? kAllLanes : (1u << count) - 1) << lane);
    access.thread = first + static_cast<u32>(lane);
    access.step = count == 1 ? 0 : static_cast<u32>(step);
    const GlobalReport r =
        races.access(access, a.place + (address[lane] - a.base), step == 0 ? bytes : bytes * count);
    if (!r.found) continue;
    const int by = lane + static_cast<int>(r.thread - access.thread);
    const u32 other = r.other.who - first;
    if (write && r.wrote && r.other.cluster == order.cluster() + 1 && other < kLanes &&
        (mask >> other & 1) != 0 && static_cast<int>(other) < by &&
        r.other.site == (in.site & 0xffff) && address[other] == address[by] &&
        in.cls == InstrClass::kStore && same_values(w, in, by, static_cast<int>(other)))
      continue;
    report_global_race(w, in, by, write, r);
  }
  if (write) ++order.writes;
  if (access.scope == kWeak) return;
  for_each_lane(mask, [&](int l) {
    access.thread = first + static_cast<u32>(l);
    const u64 place = a.place + (address[l] - a.base);
    if (write) {
      races.flag_write(access, place, bytes, in.releases, false);
    } else {
      races.flag_read(access, place, bytes, in.acquires);
    }
  });
}

void check_global(Warp& w, const Instr& in, int lane, const Allocation& a, u64 offset, u32 bytes,
                  bool write) {
  u64 address[kLanes];
  address[lane] = a.base + offset;
  check_global(w, in, 1u << lane, address, bytes, write, a);
}

void note_strong_read(Warp& w, const Instr& in, int lane, const Allocation& a, u64 offset,
                      u64 value) {
  Cta& cta = w.cta();
  Launch& launch = cta.launch;
  if (a.read_only || a.place == Allocation::kNoPlace || !launch.ordered()) return;
  ClusterOrder& order = cta.cluster.order;
  ClusterOrder::Spin& spin = order.spin(cta.race.thread(cta.thread_index(w, lane)));
  const u64 address = a.base + offset;
  const GlobalAccess write = launch.races.latest_write(a.place + offset);
  const bool again = spin.address == address && spin.site == in.site;
  if (again && spin.value == value) {
    ++spin.times;
    ++order.vain_reads;
    if (spin.writer == write.cluster && spin.clock == write.clock) return;
  } else if (again && spin.times != 0 && write.cluster != 0 &&
             write.cluster != order.cluster() + 1 &&
             launch.started_after(write.cluster - 1, spin.started)) {
    w.report(FindingKind::kResidency, in, lane,
             "the thread waits here for what " + cta_name(launch, write.cluster - 1, 0) +
                 " writes at PTX line " + std::to_string(cta.program.code[write.site].line) +
                 ", which need not have started: " + launch.residency());
  }
  if (!again || spin.value != value) spin.times = 0;
  spin = {address, value, in.site, spin.times, write.cluster, write.clock, launch.started()};
}

}  // namespace vgpu
