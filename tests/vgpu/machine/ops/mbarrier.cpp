// mbarrier objects. PTX ISA 9.0 sections 9.7.13.15.9 (init), .10 (inval), .11 (expect_tx), .12
// (complete_tx), .13 (arrive), .14 (arrive_drop), .15 (cp.async.mbarrier.arrive), .16 (test_wait,
// try_wait) and .17 (pending_count).
#include <algorithm>

#include "common/error.h"
#include "machine/access.h"
#include "machine/cluster.h"
#include "machine/cta.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

// An object and the CTA that has it.
struct Place {
  Cta* cta = nullptr;
  u32 offset = 0;   // in the shared memory of `cta`
  u32 checked = 0;  // the same for the race check: see Target::shared_offset
  MBarriers::Object* object = nullptr;
};

Place place(Warp& w, const Instr& in, int lane, u64 address, bool write) {
  Allocation* cache = nullptr;
  const Target t = locate(w, in, lane, address, 8, write, cache);
  if (t.kind != Target::Kind::kShared) {
    w.fault(kFaultInvalidAddressSpace, FindingKind::kBarrierMisuse, in, lane,
            "an mbarrier must be in shared memory");
  }
  return {t.cta, static_cast<u32>(t.data - t.cta->shared.data()), t.shared_offset, nullptr};
}

MBarriers::Object& object_at(Warp& w, const Instr& in, int lane, const Place& p) {
  MBarriers::Object* object = p.cta->mbarriers.find(*p.cta, p.offset);
  if (object == nullptr) {
    w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, lane,
            p.cta->mbarriers.known(p.offset) ? "the mbarrier has been written over"
                                             : "there is no initialised mbarrier here");
  }
  return *object;
}

// Calls f(lane, place) for each lane that uses an object: the race check has been made.
template <class F>
void for_each_object(Warp& w, const Instr& in, u32 m, bool write, F&& f) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  for_each_lane(m, [&](int l) {
    Place p = place(w, in, l, address[l], write);
    check_race(w, in, l, p.checked, 8, write, true);
    p.object = &object_at(w, in, l, p);
    f(l, p);
  });
}

// in.b count.
void exec_init(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  Cta& cta = w.cta();
  for_each_lane(m, [&](int l) {
    const Place p = place(w, in, l, address[l], true);
    check_race(w, in, l, p.checked, 8, true, false);
    const u64 count = w.value(in.b, l);
    if (count == 0 || count > MBarriers::kMaxCount || ((w.undef(in.b) >> l) & 1) != 0) {
      w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, l,
              "an mbarrier cannot expect " + std::to_string(count) + " arrivals");
    }
    if (cta.mbarriers.find(cta, p.offset) != nullptr) {
      w.report(FindingKind::kBarrierMisuse, in, l,
               "the mbarrier is initialised again without being invalidated");
    }
    MBarriers::Object& object = cta.mbarriers.init(cta, p.offset, static_cast<u32>(count));
    object.init_thread = cta.race.thread(cta.thread_index(w, l));
    object.init_clock = cta.race.tracker().clock(object.init_thread);
  });
}

void exec_inval(Warp& w, const Instr& in, u32 m) {
  // No race with those who arrived or waited: one that comes too late finds no mbarrier.
  for_each_object(w, in, m, true, [&](int, const Place& p) {
    p.cta->mbarriers.inval(p.offset);
    std::memset(p.cta->shared_defined.data() + p.offset, 0, 8);
  });
}

void add_transactions(Warp& w, const Instr& in, int lane, const Place& p, const Operand& bytes,
                      i64 sign) {
  i64 n = sign * static_cast<i64>(static_cast<u32>(w.value(bytes, lane)));
  if (in.mutation == Instr::Mutation::kNoBytes) n = 0;
  if (in.mutation == Instr::Mutation::kHalfBytes) n /= 2;
  const i64 sum = p.object->transactions + n;
  if (std::abs(sum) > MBarriers::kMaxTransactions || ((w.undef(bytes) >> lane) & 1) != 0) {
    w.fault(kFaultLaunchFailure, FindingKind::kTransaction, in, lane,
            "an mbarrier cannot count " + std::to_string(sum) + " bytes");
  }
  p.cta->mbarriers.transact(*p.cta, p.offset, *p.object, n);
}

enum : u8 { kArrive, kArriveNoComplete, kDrop, kDropNoComplete };

// in.b count, in.c bytes to expect before that; in.releases.
void exec_arrive(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  for_each_object(w, in, m, true, [&](int l, const Place& p) {
    MBarriers::Object& object = *p.object;
    const u64 count = w.value(in.b, l);
    const u64 state = object.state();
    const bool complete = in.sub == kArrive || in.sub == kDrop;
    if (count == 0 || count > object.pending || ((w.undef(in.b) >> l) & 1) != 0 ||
        (!complete && count == object.pending)) {
      w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, l,
              std::to_string(count) + " arrivals at an mbarrier that waits for " +
                  std::to_string(object.pending) +
                  (complete ? "" : " and that this must not complete"));
    }
    if (in.c.valid) add_transactions(w, in, l, p, in.c, 1);
    if (in.sub == kDrop || in.sub == kDropNoComplete) {
      if (count > object.expected) {
        w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, l,
                "an mbarrier that expects " + std::to_string(object.expected) +
                    " arrivals cannot do with " + std::to_string(count) + " less");
      }
      object.expected -= static_cast<u32>(count);
    }
    if (in.releases) {
      cta.race.release(cta.thread_index(w, l), object.arriving);
    } else {
      cta.race.release_fenced(cta.thread_index(w, l), object.arriving);
    }
    p.cta->mbarriers.arrive(*p.cta, p.offset, object, static_cast<u32>(count));
    if (!in.dst.valid) return;
    w.set_value(in.dst, l, state);
    w.set_undef(in.dst, l, 0);
  });
}

// in.b bytes; in.sub 1: complete_tx.
void exec_transactions(Warp& w, const Instr& in, u32 m) {
  for_each_object(w, in, m, true, [&](int l, const Place& p) {
    add_transactions(w, in, l, p, in.b, in.sub == 0 ? 1 : -1);
  });
}

// in.b state, or the phase's parity when in.flag.
void exec_wait(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  const bool whole = m == w.live();
  u32 together = 0;  // lanes that acquire from `common`
  MBarriers::Object* common = nullptr;
  for_each_object(w, in, m, false, [&](int l, const Place& p) {
    const auto complete = [&] {
      const MBarriers::Object& object = object_at(w, in, l, p);
      u64 wanted = w.value(in.b, l);
      if (in.mutation == Instr::Mutation::kOtherPhase) ++wanted;
      return in.flag ? (object.phase & 1) != (wanted & 1) : !MBarriers::same_phase(wanted, object);
    };
    bool done = complete();
    if (!done) {
      cta.cp_async.poll(cta, p.offset);
      done = complete();
    }
    const bool no_wait = in.mutation == Instr::Mutation::kNoWait;
    if (done && !no_wait) {
      MBarriers::Object& object = object_at(w, in, l, p);
      if (!in.acquires) {
        cta.race.observe(cta.thread_index(w, l), object.completed);
      } else if (whole && (together == 0 || common == &object)) {
        common = &object;
        together |= 1u << l;
      } else {
        cta.race.acquire(cta.thread_index(w, l), object.completed);
      }
    }
    done = done || no_wait;
    if (!done) w.wait_in_vain(1u << l, p.offset);
    write_pred(w, in.dst, 1u << l, done ? kAllLanes : 0);
    w.set_undef(in.dst, l, w.undef_of(in.b, l) != 0 ? 1 : 0);
  });
  if (together == w.live()) {
    cta.race.acquire_together(cta.thread_index(w, 0), common->completed);
  } else {
    for_each_lane(together,
                  [&](int l) { cta.race.acquire(cta.thread_index(w, l), common->completed); });
  }
}

void exec_pending_count(Warp& w, const Instr& in, u32 m) {
  for_each_lane(m, [&](int l) { w.set_value(in.dst, l, MBarriers::pending_of(w.value(in.a, l))); });
  w.shadow(in, m);
}

void exec_cp_async_arrive(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  for_each_object(w, in, m, true, [&](int l, const Place& p) {
    MBarriers::Object& object = *p.object;
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
    cta.mbarriers.show(cta, p.offset, object);
    cta.cp_async.arrive(cta, cta.thread_index(w, l), p.offset);
  });
}

void take_space(Modifiers& mods, Instr& in) {
  in.in_cluster = mods.take("shared::cluster");
  if (in.in_cluster || mods.take_one({"shared", "shared::cta"}) >= 0)
    in.space = ptx::Space::kShared;
}

enum : u8 {
  kInit,
  kInval,
  kArriveOp,
  kArriveDrop,
  kTestWait,
  kTryWait,
  kPendingCount,
  kExpectTx,
  kCompleteTx
};

void decode_mbarrier(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kBarrier;
  in.strong = true;
  const int kind = mods.take_one({"init", "inval", "arrive", "arrive_drop", "test_wait", "try_wait",
                                  "pending_count", "expect_tx", "complete_tx"});
  if (kind < 0) dec.fail("instruction '" + st.opcode + "' is not supported");
  const bool no_complete = mods.take("noComplete");
  const bool expects = (kind == kArriveOp || kind == kArriveDrop) && mods.take("expect_tx");
  const int order = mods.take_one({"release", "acquire", "relaxed"});
  mods.take_one({"cta", "cluster"});
  in.releases = in.acquires = order != 2;
  take_space(mods, in);
  const auto address = [&](size_t i) { dec.address(st.operands.at(i), in); };
  const auto expect = [&](size_t least, size_t most) {
    if (st.operands.size() < least || st.operands.size() > most) dec.fail("wrong operands");
  };
  const auto own_cta = [&] {
    if (in.in_cluster) dec.fail("this needs an mbarrier of the CTA's own");
  };
  switch (kind) {
    case kInit:
      expect(2, 2);
      own_cta();
      address(0);
      in.b = dec.source(st.operands[1], Type::kU32);
      in.fn = exec_init;
      break;
    case kInval:
      expect(1, 1);
      own_cta();
      address(0);
      in.fn = exec_inval;
      break;
    case kArriveOp:
    case kArriveDrop:
      expect(expects ? 3 : 2, 3);
      in.sub = static_cast<u8>((kind == kArriveOp ? kArrive : kDrop) + (no_complete ? 1 : 0));
      if (st.operands[0].kind != ptx::Operand::Kind::kSink) {
        own_cta();
        in.dst = dec.dest(st.operands[0], 8);
      }
      address(1);
      in.b = st.operands.size() == 3 && !expects ? dec.source(st.operands[2], Type::kU32)
                                                 : dec.literal(1, 4);
      if (expects) in.c = dec.source(st.operands[2], Type::kU32);
      in.fn = exec_arrive;
      break;
    case kExpectTx:
    case kCompleteTx:
      expect(2, 2);
      in.sub = kind == kExpectTx ? 0 : 1;
      address(0);
      in.b = dec.source(st.operands[1], Type::kU32);
      in.fn = exec_transactions;
      break;
    case kTestWait:
    case kTryWait:
      // A waiting thread steps aside for those that it waits for.
      expect(3, kind == kTestWait ? 3 : 4);
      own_cta();
      in.flow = Flow::kWait;
      in.blocks = kind == kTryWait;
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
  if (kind != kPendingCount) lower_granule(dec, in);
}

}  // namespace

void decode_cp_async_arrive(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  mods.take("arrive");
  in.flag = mods.take("noinc");
  in.strong = true;
  take_space(mods, in);
  if (in.in_cluster) dec.fail("this needs an mbarrier of the CTA's own");
  require_operands(dec, st, 1);
  dec.address(st.operands[0], in);
  if (mods.take_type() != Type::kB64) dec.fail("an mbarrier has type .b64");
  in.fn = exec_cp_async_arrive;
}

void register_mbarrier(OpcodeMap& t) { t["mbarrier"] = decode_mbarrier; }

}  // namespace vgpu::ops
