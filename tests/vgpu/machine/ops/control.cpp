// Control flow. PTX ISA 9.0 sections 9.7.12 (bra, brx, call, ret, exit), 9.7.19 (trap, nanosleep,
// pmevent, brkpt), 9.7.13.1 (bar, barrier) and 9.7.13.4 (membar, fence).
#include "common/error.h"
#include "machine/cluster.h"
#include "machine/cta.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

void decode_bra(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  mods.take("uni");
  require_operands(dec, st, 1);
  in.cls = InstrClass::kControl;
  in.flow = Flow::kBranch;
  dec.branch_to(st.operands[0].name);
}
void decode_brx(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  mods.take("idx");
  mods.take("uni");
  require_operands(dec, st, 2);
  in.cls = InstrClass::kControl;
  in.flow = Flow::kBranchIndexed;
  in.a = dec.source(st.operands[0], Type::kU32);
  in.imm = dec.branch_table(st.operands[1].name);
}
void decode_call(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  mods.take("uni");
  in.cls = InstrClass::kControl;
  in.flow = Flow::kCall;
  in.pool = dec.add_call(st);
  in.imm = dec.current_function();
  const ptx::Operand& target = st.operands.at(0);
  if (target.kind == ptx::Operand::Kind::kReg) {
    in.a = dec.source(target, Type::kU64);
  } else {
    in.target = dec.function_id(target.name);
  }
}
void decode_ret(Decoder&, const ptx::Statement&, Modifiers& mods, Instr& in) {
  mods.take("uni");
  in.cls = InstrClass::kControl;
  in.flow = mods.name() == "ret" ? Flow::kReturn : Flow::kExit;
}
void exec_trap(Warp& w, const Instr& in, u32 m) {
  w.fault(kFaultLaunchFailure, FindingKind::kTrap, in, std::countr_zero(m),
          "the kernel executed trap");
}
void decode_trap(Decoder&, const ptx::Statement&, Modifiers&, Instr& in) {
  in.cls = InstrClass::kControl;
  in.fn = exec_trap;
}
void exec_nothing(Warp&, const Instr&, u32) {}
void decode_nanosleep(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  mods.take_type();
  in.cls = InstrClass::kControl;
  in.flow = Flow::kYield;
  in.a = dec.source(st.operands.at(0), Type::kU32);
}
void decode_pmevent(Decoder&, const ptx::Statement&, Modifiers& mods, Instr& in) {
  mods.take("mask");
  in.cls = InstrClass::kOther;
  in.fn = exec_nothing;
}

// Memory of a CTA and of the grid is sequentially consistent here; a fence matters to the race
// checks alone.
void exec_fence(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  for_each_lane(m, [&](int l) {
    const u32 thread = cta.thread_index(w, l);
    cta.race.fence(thread);
    cta.cluster.order.fence(cta.race.thread(thread), static_cast<Scope>(in.scope), in.releases,
                            in.acquires);
  });
}
void decode_fence(Decoder&, const ptx::Statement&, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kBarrier;
  if (decode_proxy_fence(mods, in)) return;
  in.releases = !mods.take("acquire");
  in.acquires = !mods.take("release");
  in.scope = scope_of(mods.take_one({"cta", "cluster", "gpu", "sys"}));  // membar.gl: gpu
  while (!mods.take_any().empty()) {
  }
  in.fn = exec_fence;
}

// bar.red: the reduction of the barrier that just completed.
void exec_reduction(Warp& w, const Instr& in, u32 m) {
  const Cta::Reduction& r = w.cta().reduction();
  if (in.sub == 2) {
    for_each_lane(m, [&](int l) { w.set_value(in.dst, l, r.count); });
  } else {
    write_pred(w, in.dst, m, (in.sub == 3 ? r.all : r.any) ? kAllLanes : 0);
  }
  w.set_defined(in.dst, m);
}
// bar.warp.sync: every lane of the mask is here.
void exec_warp_sync(Warp& w, const Instr&, u32 m) { w.cta().race.warp_sync(w.index(), m); }

void decode_bar(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool barrier = mods.name() == "barrier";
  in.cls = InstrClass::kBarrier;
  if (mods.take("warp")) {
    mods.take("sync");
    require_operands(dec, st, 1);
    in.flow = Flow::kCollective;
    in.flag = true;
    in.c = dec.source(st.operands[0], Type::kB32);
    in.fn = exec_warp_sync;
    return;
  }
  if (mods.take("cluster")) {
    decode_cluster_barrier(dec, st, mods, in);
    return;
  }
  mods.take("cta");
  const int kind = mods.take_one({"sync", "arrive", "red"});
  if (kind < 0) dec.fail("this barrier form is not supported");
  in.flag = mods.take("aligned") || !barrier;
  in.flow = Flow::kBarrier;
  in.sub = static_cast<u8>(kind);
  size_t next = 0;
  if (kind == 2) {
    const int op = mods.take_one({"popc", "and", "or"});
    if (op < 0) dec.fail("barrier reduction without an operation");
    in.sub = static_cast<u8>(2 + op);
    mods.take_type();
    in.dst = dec.dest(st.operands.at(next++), op == 0 ? 4 : 0);
    in.fn = exec_reduction;
  }
  in.a = dec.source(st.operands.at(next++), Type::kU32);
  const size_t tail = kind == 2 ? 1 : 0;
  if (st.operands.size() > next + tail) in.b = dec.source(st.operands[next++], Type::kU32);
  if (kind == 2) in.c = dec.predicate(st.operands.at(next++));
}

}  // namespace

void register_control(OpcodeMap& t) {
  t["bra"] = decode_bra;
  t["brx"] = decode_brx;
  t["call"] = decode_call;
  t["ret"] = t["exit"] = decode_ret;
  t["trap"] = t["brkpt"] = decode_trap;
  t["nanosleep"] = decode_nanosleep;
  t["pmevent"] = decode_pmevent;
  t["membar"] = t["fence"] = decode_fence;
  t["bar"] = t["barrier"] = decode_bar;
}

}  // namespace vgpu::ops
