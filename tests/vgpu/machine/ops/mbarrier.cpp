// mbarrier objects, as far as sm_80 has them. PTX ISA 9.0 sections 9.7.13.15.9 (init), .10 (inval),
// .13 (arrive), .14 (arrive_drop), .15 (cp.async.mbarrier.arrive), .16 (test_wait, try_wait) and
// .17 (pending_count).
#include <algorithm>

#include "common/error.h"
#include "machine/access.h"
#include "machine/cta.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

// The offset of the object in shared memory.
u32 place(Warp& w, const Instr& in, int lane, u64 address, bool write) {
  Allocation* cache = nullptr;
  const Target t = locate(w, in, lane, address, 8, write, cache);
  if (t.kind != Target::Kind::kShared) {
    w.fault(kFaultInvalidAddressSpace, FindingKind::kBarrierMisuse, in, lane,
            "an mbarrier must be in shared memory");
  }
  return t.shared_offset;
}

MBarriers::Object& object_at(Warp& w, const Instr& in, int lane, u32 offset) {
  Cta& cta = w.cta();
  MBarriers::Object* object = cta.mbarriers.find(cta, offset);
  if (object == nullptr) {
    w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, lane,
            cta.mbarriers.known(offset) ? "the mbarrier has been written over"
                                        : "there is no initialised mbarrier here");
  }
  return *object;
}

// in.b count.
void exec_init(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  for_each_lane(m, [&](int l) {
    const u32 offset = place(w, in, l, address[l], true);
    check_race(w, in, l, offset, 8, true, false);
    const u64 count = w.value(in.b, l);
    if (count == 0 || count > MBarriers::kMaxCount || ((w.undef(in.b) >> l) & 1) != 0) {
      w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, l,
              "an mbarrier cannot expect " + std::to_string(count) + " arrivals");
    }
    if (w.cta().mbarriers.find(w.cta(), offset) != nullptr) {
      w.report(FindingKind::kBarrierMisuse, in, l,
               "the mbarrier is initialised again without being invalidated");
    }
    w.cta().mbarriers.init(w.cta(), offset, static_cast<u32>(count));
  });
}

void exec_inval(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  for_each_lane(m, [&](int l) {
    const u32 offset = place(w, in, l, address[l], true);
    // No race with those who arrived or waited: one that comes too late finds no mbarrier.
    check_race(w, in, l, offset, 8, true, true);
    object_at(w, in, l, offset);
    w.cta().mbarriers.inval(offset);
    std::memset(w.cta().shared_defined.data() + offset, 0, 8);
  });
}

enum : u8 { kArrive, kArriveNoComplete, kDrop, kDropNoComplete };

// in.b count; in.releases.
void exec_arrive(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  Cta& cta = w.cta();
  for_each_lane(m, [&](int l) {
    const u32 offset = place(w, in, l, address[l], true);
    check_race(w, in, l, offset, 8, true, true);
    MBarriers::Object& object = object_at(w, in, l, offset);
    const u64 count = w.value(in.b, l);
    const u64 state = object.image();
    const bool complete = in.sub == kArrive || in.sub == kDrop;
    if (count == 0 || count > object.pending || ((w.undef(in.b) >> l) & 1) != 0 ||
        (!complete && count == object.pending)) {
      w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, l,
              std::to_string(count) + " arrivals at an mbarrier that waits for " +
                  std::to_string(object.pending) +
                  (complete ? "" : " and that this must not complete"));
    }
    if (in.sub == kDrop || in.sub == kDropNoComplete) {
      if (count > object.expected) {
        w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, l,
                "an mbarrier that expects " + std::to_string(object.expected) +
                    " arrivals cannot do with " + std::to_string(count) + " less");
      }
      object.expected -= static_cast<u32>(count);
    }
    if (in.releases) cta.race.release(cta.thread_index(w, l), object.arriving);
    cta.mbarriers.arrive(cta, offset, object, static_cast<u32>(count));
    if (!in.dst.valid) return;
    w.set_value(in.dst, l, state);
    w.set_undef(in.dst, l, 0);
  });
  cta.progress = true;
}

// in.b state, or the phase's parity when in.flag.
void exec_wait(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  Cta& cta = w.cta();
  for_each_lane(m, [&](int l) {
    const u32 offset = place(w, in, l, address[l], false);
    check_race(w, in, l, offset, 8, false, true);
    const auto complete = [&] {
      const MBarriers::Object& object = object_at(w, in, l, offset);
      const u64 wanted = w.value(in.b, l);
      return in.flag ? (object.phase & 1) != (wanted & 1) : !MBarriers::same_phase(wanted, object);
    };
    bool done = complete();
    if (!done) {
      cta.cp_async.poll(cta, offset);
      done = complete();
    }
    if (done && in.acquires)
      cta.race.acquire(cta.thread_index(w, l), object_at(w, in, l, offset).completed);
    write_pred(w, in.dst, 1u << l, done ? kAllLanes : 0);
    w.set_undef(in.dst, l, w.undef_of(in.b, l) != 0 ? 1 : 0);
  });
}

void exec_pending_count(Warp& w, const Instr& in, u32 m) {
  for_each_lane(m, [&](int l) { w.set_value(in.dst, l, MBarriers::pending_of(w.value(in.a, l))); });
  w.shadow(in, m);
}

void exec_cp_async_arrive(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  Cta& cta = w.cta();
  for_each_lane(m, [&](int l) {
    const u32 offset = place(w, in, l, address[l], true);
    check_race(w, in, l, offset, 8, true, true);
    MBarriers::Object& object = object_at(w, in, l, offset);
    if (!in.flag) {
      if (object.pending == MBarriers::kMaxCount) {
        w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, l,
                "more arrivals than an mbarrier can count");
      }
      ++object.pending;
    } else if (object.deferred >= object.pending) {
      w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, l,
              "more arrivals at an mbarrier than it expects");
    }
    cta.mbarriers.show(cta, offset, object);
    cta.cp_async.arrive(cta, cta.thread_index(w, l), offset);
  });
}

void take_space(Decoder& dec, Modifiers& mods, Instr& in) {
  if (mods.take_one({"shared", "shared::cta"}) >= 0) in.space = ptx::Space::kShared;
  if (mods.take("shared::cluster")) dec.fail("mbarriers of other CTAs are not supported");
}

void decode_mbarrier(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kBarrier;
  in.strong = true;
  const int kind = mods.take_one(
      {"init", "inval", "arrive", "arrive_drop", "test_wait", "try_wait", "pending_count"});
  if (kind < 0) dec.fail("instruction '" + st.opcode + "' is not supported");
  if (mods.has("expect_tx")) dec.fail("transactions of an mbarrier are not supported");
  const bool no_complete = mods.take("noComplete");
  const int order = mods.take_one({"release", "acquire", "relaxed"});
  mods.take_one({"cta", "cluster"});
  in.releases = in.acquires = order != 2;
  take_space(dec, mods, in);
  const auto address = [&](size_t i) { dec.address(st.operands.at(i), in); };
  const auto expect = [&](size_t least, size_t most) {
    if (st.operands.size() < least || st.operands.size() > most) dec.fail("wrong operands");
  };
  switch (kind) {
    case 0:
      expect(2, 2);
      address(0);
      in.b = dec.source(st.operands[1], Type::kU32);
      in.fn = exec_init;
      break;
    case 1:
      expect(1, 1);
      address(0);
      in.fn = exec_inval;
      break;
    case 2:
    case 3:
      expect(2, 3);
      in.sub = static_cast<u8>((kind == 2 ? kArrive : kDrop) + (no_complete ? 1 : 0));
      if (st.operands[0].kind != ptx::Operand::Kind::kSink) in.dst = dec.dest(st.operands[0], 8);
      address(1);
      in.b = st.operands.size() == 3 ? dec.source(st.operands[2], Type::kU32) : dec.literal(1, 4);
      in.fn = exec_arrive;
      break;
    case 4:
    case 5:
      // A waiting thread steps aside for those that it waits for.
      expect(3, kind == 4 ? 3 : 4);
      in.flow = Flow::kYield;
      in.flag = mods.take("parity");
      in.dst = dec.dest(st.operands[0], 0);
      address(1);
      in.b = dec.source(st.operands[2], in.flag ? Type::kU32 : Type::kB64);
      in.fn = exec_wait;
      break;
    default:
      expect(2, 2);
      in.dst = dec.dest(st.operands[0], 4);
      in.a = dec.source(st.operands[1], Type::kB64);
      in.fn = exec_pending_count;
      break;
  }
  if (mods.take_type() != Type::kB64) dec.fail("an mbarrier has type .b64");
  in.access_bytes = 8;
  if (kind != 6) lower_granule(dec, in);
}

}  // namespace

void decode_cp_async_arrive(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  mods.take("arrive");
  in.flag = mods.take("noinc");
  in.strong = true;
  take_space(dec, mods, in);
  require_operands(dec, st, 1);
  dec.address(st.operands[0], in);
  if (mods.take_type() != Type::kB64) dec.fail("an mbarrier has type .b64");
  in.fn = exec_cp_async_arrive;
}

void register_mbarrier(OpcodeMap& t) { t["mbarrier"] = decode_mbarrier; }

}  // namespace vgpu::ops
