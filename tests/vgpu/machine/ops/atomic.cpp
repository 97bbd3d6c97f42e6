// Atomics and reductions on memory. PTX ISA 9.0 sections 9.7.13.5 (atom) and 9.7.13.6 (red).
//
// Lanes are served in ascending order; between CTAs on other cores the host's atomics decide.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "machine/access.h"
#include "machine/cluster.h"
#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

enum : u8 { kAdd, kMin, kMax, kInc, kDec, kAnd, kOr, kXor, kExch, kCas };

template <class T>
T min_max_float(T a, T b, bool want_max) {
  if (std::isnan(a)) return b;
  if (std::isnan(b)) return a;
  return (a < b) == want_max ? b : a;
}

// New value from the old one; floats of 16 bits come packed in their integer.
u64 apply(const Instr& in, u64 old, u64 b, u64 c) {
  switch (in.sub) {
    case kAnd:
      return old & b;
    case kOr:
      return old | b;
    case kXor:
      return old ^ b;
    case kExch:
      return b;
    case kCas:
      return old == b ? c : old;
    case kInc:
      return static_cast<u32>(old) >= static_cast<u32>(b) ? 0 : old + 1;
    case kDec:
      return old == 0 || static_cast<u32>(old) > static_cast<u32>(b) ? b : old - 1;
    default:
      break;
  }
  const bool want_max = in.sub == kMax;
  const auto pick = [&](auto x, auto y) {
    // A sum wraps, which C++ defines for unsigned numbers only.
    if (in.sub == kAdd) return static_cast<decltype(x)>(static_cast<u64>(x) + static_cast<u64>(y));
    return (x < y) == want_max ? y : x;
  };
  switch (in.type) {
    case Type::kF32: {
      const float x = bits<float>(static_cast<u32>(old)), y = bits<float>(static_cast<u32>(b));
      const float r = in.sub == kAdd ? canonical(x + y) : min_max_float(x, y, want_max);
      return bits<u32>(r);
    }
    case Type::kF64: {
      const double x = bits<double>(old), y = bits<double>(b);
      return bits<u64>(in.sub == kAdd ? x + y : min_max_float(x, y, want_max));
    }
    case Type::kF16:
    case Type::kF16x2:
    case Type::kBf16:
    case Type::kBf16x2: {
      const bool bf16 = in.type == Type::kBf16 || in.type == Type::kBf16x2;
      u64 out = 0;
      for (int i = 0; i < ptx::type_bytes(in.type) / 2; ++i) {
        const u16 h = static_cast<u16>(old >> (16 * i)), k = static_cast<u16>(b >> (16 * i));
        const float x = bf16 ? bf16_to_float(h) : half_to_float(h);
        const float y = bf16 ? bf16_to_float(k) : half_to_float(k);
        const float r = in.sub == kAdd ? x + y : min_max_float(x, y, want_max);
        out |= u64{bf16 ? float_to_bf16(r) : float_to_half(r)} << (16 * i);
      }
      return out;
    }
    case Type::kS32:
      return static_cast<u32>(pick(static_cast<i32>(old), static_cast<i32>(b)));
    case Type::kS64:
      return static_cast<u64>(pick(static_cast<i64>(old), static_cast<i64>(b)));
    case Type::kU64:
      return pick(old, b);
    default:
      return pick(static_cast<u32>(old), static_cast<u32>(b));
  }
}

template <class T>
u64 update(const Instr& in, u8* address, u64 b, u64 c) {
  T* p = reinterpret_cast<T*>(address);
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  for (;;) {
    const T wanted = static_cast<T>(apply(in, old, b, c));
    if (__atomic_compare_exchange_n(p, &old, wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      return old;
  }
}
}  // namespace

u64 update_atomically(const Instr& in, u8* address, u64 b, u64 c) {
  switch (in.access_bytes) {
    case 2:
      return update<u16>(in, address, b, c);
    case 4:
      return update<u32>(in, address, b, c);
    default:
      return update<u64>(in, address, b, c);
  }
}

namespace {

GlobalRaces::Access as_access(Warp& w, const Instr& in, int lane) {
  Cta& cta = w.cta();
  GlobalRaces::Access access{cta.cluster.order};
  access.thread = cta.race.thread(cta.thread_index(w, lane));
  access.site = in.site;
  access.scope = static_cast<Scope>(in.scope);
  access.write = true;
  return access;
}

void check_global_atomic(Warp& w, const Instr& in, int lane, const Allocation& a, u64 offset,
                         u32 bytes) {
  if (a.place == Allocation::kNoPlace) return;
  const GlobalReport r =
      w.cta().launch.races.access(as_access(w, in, lane), a.place + offset, bytes);
  if (r.found) report_global_race(w, in, lane, true, r);
}

// What it reads, and then what it writes, if it does, may be a flag. One that changes nothing may
// be a way of waiting.
void note_atomic(Warp& w, const Instr& in, int lane, const Allocation& a, u64 offset, u32 bytes,
                 bool wrote, u64 before, u64 after) {
  if (a.place == Allocation::kNoPlace) return;
  GlobalRaces& races = w.cta().launch.races;
  const GlobalRaces::Access access = as_access(w, in, lane);
  if (in.dst.valid || in.vec > 1) races.flag_read(access, a.place + offset, bytes, in.acquires);
  if (wrote) races.flag_write(access, a.place + offset, bytes, in.releases, true);
  if (before != after) {
    ++access.order.writes;
  } else if (in.dst.valid) {
    ++access.order.vain_reads;
  }
}

void exec_atomic(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  const u32 element = in.access_bytes, bytes = element * in.vec;
  Allocation* cache = nullptr;
  Target::Kind kind = Target::Kind::kGlobal;
  for_each_lane(m, [&](int l) {
    const Target t = locate(w, in, l, address[l], bytes, true, cache);
    kind = t.kind;
    if (kind == Target::Kind::kShared) check_race(w, in, l, t.shared_offset, bytes, true, true);
    if (t.allocation != nullptr) check_global_atomic(w, in, l, *t.allocation, t.bit_offset, bytes);
    bool wrote = in.sub != kCas;
    const u64 before_all = first_bytes(t.data, bytes);
    for (u32 e = 0; e < in.vec; ++e) {
      const size_t at = size_t{e} * element;
      Target p = t;
      p.data += at;
      p.bit_offset += at;
      if (p.defined_bytes != nullptr) p.defined_bytes += at;
      const Operand& source = in.vec == 1 ? in.b : w.operand(in.pool + in.vec + e);
      const Operand& dst = in.vec == 1 ? in.dst : w.operand(in.pool + e);
      u32 undefined = w.undef_of(source, l) | (in.c.valid ? w.undef_of(in.c, l) : 0);
      const u32 before = undefined_mask(p, element);
      if (in.sub != kExch) undefined |= before;
      if (undefined != 0 && kind == Target::Kind::kGlobal) {
        w.report(FindingKind::kUndefinedStore, in, l,
                 "an atomic on undefined data in global memory");
        undefined = 0;
      }
      const u64 old =
          update_atomically(in, p.data, w.value(source, l), in.c.valid ? w.value(in.c, l) : 0);
      wrote = wrote || old == w.value(source, l);
      mark(p, element, undefined != 0 ? (1u << element) - 1 : 0);
      if (!dst.valid) continue;
      w.set_value(dst, l, old);
      w.set_undef(dst, l, before);
    }
    if (t.allocation != nullptr)
      note_atomic(w, in, l, *t.allocation, t.bit_offset, bytes, wrote, before_all,
                  first_bytes(t.data, bytes));
    if (kind != Target::Kind::kShared) return;
    CtaRace& race = w.cta().race;
    const u32 thread = w.cta().thread_index(w, l);
    race.flag_read(thread, t.shared_offset, bytes, in.acquires);
    if (wrote) race.flag_write(thread, t.shared_offset, bytes, in.releases, true);
  });
  if (!w.cta().launch.remembers()) return;
  if (kind == Target::Kind::kGlobal) count_global(w, in, m, address, bytes, true);
  if (kind == Target::Kind::kShared) count_shared(w, in, m, address, bytes);
}

void exec_atomic128(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  Allocation* cache = nullptr;
  for_each_lane(m, [&](int l) {
    const Target t = locate(w, in, l, address[l], 16, true, cache);
    u64* memory = reinterpret_cast<u64*>(t.data);
    const auto lane = [&](const Operand& o) {
      return w.lanes<u64>(o) + 2 * static_cast<size_t>(l);
    };
    if (t.allocation != nullptr) check_global_atomic(w, in, l, *t.allocation, t.bit_offset, 16);
    const u64 old[2] = {memory[0], memory[1]};
    const u64* b = lane(in.b);
    const bool exchange = in.sub == kExch || (old[0] == b[0] && old[1] == b[1]);
    const u64* wanted = in.sub == kExch ? b : lane(in.c);
    const bool changes = exchange && std::memcmp(memory, wanted, 16) != 0;
    if (exchange) std::memcpy(memory, wanted, 16);
    if (t.allocation != nullptr)
      note_atomic(w, in, l, *t.allocation, t.bit_offset, 16, exchange, 0, changes ? 1 : 0);
    std::memcpy(lane(in.dst), old, 16);
    w.set_undef(in.dst, l, undefined_mask(t, 16) != 0 ? 0xff : 0);
    mark(t, 16, 0);
  });
}

void decode_atomic(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  if (mods.has("async")) {
    decode_async_value(dec, st, mods, in);
    return;
  }
  const bool red = mods.name() == "red";
  in.cls = InstrClass::kAtomic;
  in.strong = true;
  const int order = mods.take_one({"relaxed", "acquire", "release", "acq_rel"});
  in.acquires = order == 1 || order == 3;
  in.releases = order == 2 || order == 3;
  in.scope = scope_of(mods.take_one({"cta", "cluster", "gpu", "sys"}));
  in.in_cluster = mods.has("shared::cluster");
  switch (mods.take_one({"global", "shared", "shared::cta", "shared::cluster"})) {
    case 0:
      in.space = ptx::Space::kGlobal;
      break;
    case 1:
    case 2:
    case 3:
      in.space = ptx::Space::kShared;
      break;
    default:
      in.space = ptx::Space::kGeneric;
  }
  const int op =
      mods.take_one({"add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas"});
  if (op < 0) dec.fail("atomic without an operation");
  in.sub = static_cast<u8>(op);
  mods.take("noftz");
  mods.take("L2::cache_hint");
  switch (mods.take_one({"v2", "v4", "v8"})) {
    case 0:
      in.vec = 2;
      break;
    case 1:
      in.vec = 4;
      break;
    case 2:
      in.vec = 8;
      break;
    default:
      break;
  }
  in.type = mods.take_type();
  in.access_bytes = static_cast<u8>(ptx::type_bytes(in.type));
  const size_t first = red ? 0 : 1;
  if (st.operands.size() < first + 2) dec.fail("operands are missing");
  const bool used = !red && st.operands[0].kind != ptx::Operand::Kind::kSink;
  if (in.vec > 1) {
    if (used) {
      dec.pool_dests(st.operands[0], in, in.access_bytes);
    } else {
      for (u32 i = 0; i < in.vec; ++i) dec.pool_add(Operand{}, in);
    }
    dec.pool_sources(st.operands[first + 1], in.type, in);
  } else {
    if (used) in.dst = dec.dest(st.operands[0], in.access_bytes);
    in.b = dec.source(st.operands[first + 1], in.type);
  }
  dec.address(st.operands[first], in);
  if (in.sub == kCas) in.c = dec.source(st.operands.at(first + 2), in.type);
  lower_granule(dec, in);
  // Integer reductions without a result commute, so CTAs may run in any order.
  const bool commutes = !used && !ptx::type_is_float(in.type) && in.sub != kExch &&
                        in.sub != kCas && in.sub != kInc && in.sub != kDec;
  if (in.space != ptx::Space::kShared && !commutes) dec.program().needs_order = true;
  if (in.access_bytes == 16) {
    in.fn = (in.sub == kExch || in.sub == kCas) && used ? exec_atomic128 : nullptr;
  } else {
    in.fn = exec_atomic;
  }
}

}  // namespace

void register_atomic(OpcodeMap& t) { t["atom"] = t["red"] = decode_atomic; }

}  // namespace vgpu::ops
