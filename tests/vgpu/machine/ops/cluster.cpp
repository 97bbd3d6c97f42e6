// Clusters, proxy fences and what else Hopper brought for threads that work together. PTX ISA 9.0
// sections 9.7.9.23 (mapa), 9.7.9.24 (getctarank), 9.7.13.3 (barrier.cluster), 9.7.13.4
// (fence.proxy, fence.mbarrier_init), 9.7.13.13 (griddepcontrol), 9.7.13.14 (elect.sync).
#include "machine/cluster.h"
#include "machine/access.h"
#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

// in.a an address in the cluster's shared memory, generic unless in.space says shared; in.b rank.
void exec_mapa(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  const u64 window =
      in.space == ptx::Space::kShared ? 0 : cta.launch.machine.memory.shared_window();
  for_each_lane(m, [&](int l) {
    const u64 address = (w.value(in.a, l) - window) % Cta::kWindowBytes;
    const u64 rank = w.value(in.b, l);
    if (rank >= cta.cluster.size()) {
      w.report(
          FindingKind::kOutOfBounds, in, l,
          "CTA " + std::to_string(rank) + " of a cluster of " + std::to_string(cta.cluster.size()));
    }
    w.set_value(in.dst, l, window + address + rank * Cta::kWindowBytes);
  });
  w.shadow(in, m);
}
void exec_getctarank(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  const u64 window =
      in.space == ptx::Space::kShared ? 0 : cta.launch.machine.memory.shared_window();
  for_each_lane(
      m, [&](int l) { w.set_value(in.dst, l, (w.value(in.a, l) - window) / Cta::kWindowBytes); });
  w.shadow(in, m);
}
void decode_mapa(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kMove;
  if (mods.take("shared::cluster")) in.space = ptx::Space::kShared;
  const Type t = mods.take_type();
  if (mods.name() == "mapa") {
    decode_operands(dec, st, in, t, {t, Type::kU32});
    in.fn = exec_mapa;
  } else {
    decode_operands(dec, st, in, Type::kU32, {t});
    in.fn = exec_getctarank;
  }
}

void exec_elect(Warp& w, const Instr& in, u32 m) {
  const int leader = std::countr_zero(m);
  for_each_lane(m, [&](int l) { w.set_value(in.dst, l, static_cast<u64>(leader)); });
  w.set_defined(in.dst, m);
  write_pred(w, in.dst2, m, 1u << leader);
  w.set_defined(in.dst2, m);
}
void decode_elect(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kShuffle;
  in.flow = Flow::kCollective;
  require_operands(dec, st, 2);
  const ptx::Operand& d = st.operands[0];
  if (!mods.take("sync") || d.kind != ptx::Operand::Kind::kPair) dec.fail("d|p is expected");
  in.dst = dec.dest(d.elements[0]);
  in.dst2 = dec.dest(d.elements[1], 0);
  in.c = dec.source(st.operands[1], Type::kB32);
  in.fn = exec_elect;
}

void exec_nothing(Warp&, const Instr&, u32) {}
// Grids run one after the other here: what came before is complete. See check/grid_order.h.
void exec_grid_wait(Warp& w, const Instr&, u32 m) {
  Cta& cta = w.cta();
  for_each_lane(
      m, [&](int l) { cta.cluster.grid_waits.wait(cta.race.thread(cta.thread_index(w, l))); });
}
void exec_launch_dependents(Warp& w, const Instr&, u32) { w.cta().cluster.launch_dependents(); }
void decode_griddepcontrol(Decoder& dec, const ptx::Statement&, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kAsync;
  const int action = mods.take_one({"launch_dependents", "wait"});
  if (action < 0) dec.fail("griddepcontrol has no such action");
  in.fn = action == 0 ? exec_launch_dependents : exec_grid_wait;
  if (action == 0) dec.program().launches_dependents = true;
}

void exec_cluster_arrive(Warp& w, const Instr& in, u32 m) {
  Cluster& cluster = w.cta().cluster;
  const u32 twice = w.cluster_arrived & m;
  if (twice != 0) {
    w.report(FindingKind::kBarrierMisuse, in, std::countr_zero(twice),
             "the thread arrives again at the cluster's barrier without having waited");
  }
  w.cluster_arrived |= m;
  for_each_lane(m, [&](int l) { w.cluster_phase[l] = cluster.barrier_phase(); });
  cluster.arrive(w, m, in.releases);
}
void exec_cluster_wait(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  const u32 early = m & ~w.cluster_arrived;
  if (early != 0) {
    w.report(FindingKind::kBarrierMisuse, in, std::countr_zero(early),
             "the thread waits at the cluster's barrier without having arrived");
  }
  for_each_lane(m & ~early, [&](int l) {
    if (w.cluster_phase[l] == cta.cluster.barrier_phase()) w.wait_in_vain(1u << l, kClusterBarrier);
  });
  if (w.waits_in_vain()) return;
  w.cluster_arrived &= ~m;
  if (!in.acquires) return;
  const Clocks& released = cta.cluster.barrier_released();
  if (m == w.live()) {
    cta.race.acquire_together(cta.thread_index(w, 0), released);
  } else {
    for_each_lane(m, [&](int l) { cta.race.acquire(cta.thread_index(w, l), released); });
  }
}

// in.flag: not of initialisations alone; in.sub: bit 0 shared memory, bit 1 global memory.
void exec_proxy_fence(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  for_each_lane(m, [&](int l) {
    const u32 thread = cta.thread_index(w, l);
    if ((in.sub & 2) != 0) cta.cluster.order.proxy_fence(cta.race.thread(thread));
    if ((in.sub & 1) == 0) return;
    if (in.flag) cta.race.proxy_fence(thread);
    cta.mbarriers.fence_init(cta.race.thread(thread));
    cta.race.fence(thread);
  });
}

}  // namespace

void decode_cluster_barrier(Decoder& dec, const ptx::Statement&, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kBarrier;
  const int kind = mods.take_one({"arrive", "wait"});
  const int order = mods.take_one({"release", "acquire", "relaxed"});
  const bool aligned = mods.take("aligned");
  if (kind < 0) dec.fail("this barrier form is not supported");
  in.releases = in.acquires = order != 2;
  if (kind == 0) {
    in.flow = aligned ? Flow::kAligned : Flow::kNone;
    in.fn = exec_cluster_arrive;
  } else {
    in.flow = Flow::kWait;
    in.blocks = true;
    in.fn = exec_cluster_wait;
  }
}

// fence.proxy.{alias, async, tensormap::generic}, fence.mbarrier_init. True when `mods` is one.
bool decode_proxy_fence(Modifiers& mods, Instr& in) {
  const bool init = mods.has("mbarrier_init");
  if (!init && !mods.has("proxy")) return false;
  const bool async = mods.has("async") || mods.has("async::generic");
  in.flag = async;
  in.cls = InstrClass::kBarrier;
  const bool global = mods.has("global");
  const bool shared = mods.has("shared::cta") || mods.has("shared::cluster") ||
                      mods.has("sync_restrict::shared::cta") ||
                      mods.has("sync_restrict::shared::cluster");
  in.sub = static_cast<u8>((global ? 0 : 1) | (async && !shared ? 2 : 0));
  in.fn = init || async ? exec_proxy_fence : exec_nothing;
  while (!mods.take_any().empty()) {
  }
  return true;
}

void register_cluster(OpcodeMap& t) {
  t["mapa"] = t["getctarank"] = decode_mapa;
  t["elect"] = decode_elect;
  t["griddepcontrol"] = decode_griddepcontrol;
}

}  // namespace vgpu::ops
