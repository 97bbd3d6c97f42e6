// Loads and stores. PTX ISA 9.0 sections 9.7.9.8 (ld), 9.7.9.9 (ld.global.nc), 9.7.9.10 (ldu),
// 9.7.9.11 (st), 9.7.9.15 (prefetch), 9.7.9.16 (applypriority), 9.7.9.17 (discard).
#include <algorithm>

#include "machine/access.h"
#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {

void lower_granule(Decoder& dec, const Instr& in) {
  if (in.space == ptx::Space::kGlobal || in.space == ptx::Space::kGeneric) {
    u32& granule = dec.program().global_granule;
    granule = std::min<u32>(granule, std::max<u32>(1, in.access_bytes));
  }
  if (in.space != ptx::Space::kShared && in.space != ptx::Space::kGeneric) return;
  u32& granule = dec.program().shared_granule;
  granule = std::min<u32>(granule, std::max<u32>(1, in.access_bytes));
}

namespace {

using ptx::Type;

template <class T>
u64 read_as(const u8* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return static_cast<u64>(static_cast<i64>(v));
}
u64 read_element(const u8* p, Type type, u32 bytes) {
  switch (bytes) {
    case 1:
      return type == Type::kS8 ? read_as<i8>(p) : read_as<u8>(p);
    case 2:
      return type == Type::kS16 ? read_as<i16>(p) : read_as<u16>(p);
    case 4:
      return type == Type::kS32 ? read_as<i32>(p) : read_as<u32>(p);
    default:
      return read_as<u64>(p);
  }
}

void count_access(Warp& w, const Instr& in, u32 mask, const u64 (&address)[kLanes], u32 bytes,
                  Target::Kind kind, bool write) {
  if (kind == Target::Kind::kShared) count_shared(w, in, mask, address, bytes);
  if (kind == Target::Kind::kGlobal && in.space != ptx::Space::kParam)
    count_global(w, in, mask, address, bytes, write);
}

void set_loaded(Warp& w, const Operand& d, int lane, const u8* data, const Instr& in,
                u32 undefined) {
  if (d.width == 16) {
    std::memcpy(w.lanes<u8>(d) + static_cast<size_t>(lane) * 16, data, 16);
    w.set_undef(d, lane, (undefined & 0xff) | (undefined >> 8));
    return;
  }
  w.set_value(d, lane, read_element(data, in.type, in.access_bytes));
  if (undefined != 0 || ((w.undef(d) >> lane) & 1) != 0) {
    // An extended load is undefined above its bytes when its top byte is.
    const u32 bytes = in.access_bytes;
    if (d.width > bytes && ptx::type_is_signed(in.type) && ((undefined >> (bytes - 1)) & 1) != 0)
      undefined |= 0xffu << bytes;
    w.set_undef(d, lane, undefined & ((1u << d.width) - 1));
  }
}

// Are all bytes of the active lanes defined?
bool all_defined(const WarpTarget& t, u32 mask, const u64 (&address)[kLanes], u32 bytes) {
  bool all = true;
  if (t.defined_bytes != nullptr) {
    for_each_lane(mask, [&](int l) {
      const u8* d = t.defined_bytes + (address[l] - t.origin);
      for (u32 i = 0; i < bytes; i += 4) {
        u32 word = 0xffffffffu;
        std::memcpy(&word, d + i, std::min<u32>(4, bytes));
        all = all && word == 0xffffffffu;
      }
    });
  } else if (t.defined_bits != nullptr) {
    for_each_lane(
        mask, [&](int l) { all = all && all_set(t.defined_bits, address[l] - t.origin, bytes); });
  }
  return all;
}

template <class T>
void load_element(Warp& w, const Operand& d, u32 mask, const u8* data,
                  const u64 (&offset)[kLanes]) {
  T* to = w.lanes<T>(d);
  for_each_lane(mask, [&](int l) { std::memcpy(&to[l], data + offset[l], sizeof(T)); });
}
template <class T>
void store_element(Warp& w, const Operand& s, u32 mask, u8* data, const u64 (&offset)[kLanes]) {
  const T* from = w.lanes<T>(s);
  for_each_lane(mask, [&](int l) { std::memcpy(data + offset[l], &from[l], sizeof(T)); });
}

// The lanes of `mask` but those whose two predecessors read the same address: of the readers of a
// byte in one instruction, two are all that the race check looks at.
u32 two_of_a_kind(u32 mask, const u64 (&address)[kLanes]) {
  u32 same = 0;  // as the lane before
  for (int l = 1; l < kLanes; ++l) same |= static_cast<u32>(address[l] == address[l - 1]) << l;
  same &= mask & mask << 1;
  return mask & ~(same & same << 1);
}

// The common case of a load: one allocation, everything defined. False: the slow way decides.
bool load_fast(Warp& w, const Instr& in, u32 m, const u64 (&address)[kLanes], u32 bytes) {
  WarpTarget t;
  if (bytes > 16 || !locate_warp(w, in, m, address, bytes, false, t)) return false;
  const u32 distinct = two_of_a_kind(m, address);
  if (!all_defined(t, distinct, address, bytes)) return false;
  if (t.kind == Target::Kind::kShared) {
    // Every lane learns from a flag what it tells.
    for_each_lane(in.strong ? m : distinct, [&](int l) {
      check_race(w, in, l, static_cast<u32>(address[l] - t.origin), bytes, false, in.strong);
    });
  }
  const bool global = t.kind == Target::Kind::kGlobal;
  if (global) check_global(w, in, m, address, bytes, false, *w.allocation_cache());
  const u32 element = in.access_bytes;
  u64 offset[kLanes];
  for (int l = 0; l < kLanes; ++l) offset[l] = address[l] - t.origin;
  if (global && in.strong) {
    for_each_lane(m, [&](int l) {
      note_strong_read(w, in, l, *w.allocation_cache(), offset[l],
                       first_bytes(t.data + offset[l], bytes));
    });
  }
  // Destinations may be address registers: all addresses have been gathered.
  for (u32 e = 0; e < in.vec; ++e) {
    const Operand& d = in.vec == 1 ? in.dst : w.operand(in.pool + e);
    const u8* data = t.data + size_t{e} * element;
    if (d.width == element && element == 4) {
      load_element<u32>(w, d, m, data, offset);
    } else if (d.width == element && element == 8) {
      load_element<u64>(w, d, m, data, offset);
    } else if (d.width == element && element == 2) {
      load_element<u16>(w, d, m, data, offset);
    } else if (d.width == 16) {
      for_each_lane(m, [&](int l) {
        std::memcpy(w.lanes<u8>(d) + static_cast<size_t>(l) * 16, data + offset[l], 16);
      });
    } else {
      for_each_lane(
          m, [&](int l) { w.set_value(d, l, read_element(data + offset[l], in.type, element)); });
    }
    w.set_defined(d, m);
  }
  if (w.cta().launch.remembers()) count_access(w, in, m, address, bytes, t.kind, false);
  return true;
}

bool store_fast(Warp& w, const Instr& in, u32 m, const u64 (&address)[kLanes], u32 bytes) {
  WarpTarget t;
  if (bytes > 16 || !locate_warp(w, in, m, address, bytes, true, t)) return false;
  const u32 element = in.access_bytes;
  u64 offset[kLanes];
  for (int l = 0; l < kLanes; ++l) offset[l] = address[l] - t.origin;
  u32 undefined = 0;
  for (u32 e = 0; e < in.vec; ++e)
    undefined |= w.undef(in.vec == 1 ? in.b : w.operand(in.pool + e));
  if ((undefined & m) != 0) return false;
  for (u32 e = 0; e < in.vec; ++e) {
    const Operand& s = in.vec == 1 ? in.b : w.operand(in.pool + e);
    if (s.width == 16) return false;
    u8* data = t.data + size_t{e} * element;
    if (s.width == element && element == 4) {
      store_element<u32>(w, s, m, data, offset);
    } else if (s.width == element && element == 8) {
      store_element<u64>(w, s, m, data, offset);
    } else {
      for_each_lane(m, [&](int l) {
        const u64 v = w.value(s, l);
        std::memcpy(data + offset[l], &v, element);
      });
    }
  }
  if (t.kind == Target::Kind::kShared) {
    for_each_lane(m, [&](int l) {
      check_store_race(w, in, m, address, l, static_cast<u32>(address[l] - t.origin), bytes);
      std::memset(t.defined_bytes + offset[l], 0xff, bytes);
    });
  } else {
    check_global(w, in, m, address, bytes, true, *w.allocation_cache());
    const u64 all = (u64{1} << bytes) - 1;
    if (t.defined_bits != nullptr)
      for_each_lane(m, [&](int l) { put_bits(t.defined_bits, offset[l], bytes, all); });
  }
  if (w.cta().launch.remembers()) count_access(w, in, m, address, bytes, t.kind, true);
  return true;
}

void exec_ld(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  const u32 element = in.access_bytes;
  const u32 bytes = element * in.vec;
  if (load_fast(w, in, m, address, bytes)) return;
  Allocation* cache = nullptr;
  Target::Kind kind = Target::Kind::kGlobal;
  for_each_lane(m, [&](int l) {
    const Target t = locate(w, in, l, address[l], bytes, false, cache);
    kind = t.kind;
    if (kind == Target::Kind::kShared)
      check_race(w, in, l, t.shared_offset, bytes, false, in.strong);
    if (t.allocation != nullptr) {
      check_global(w, in, l, *t.allocation, t.bit_offset, bytes, false);
      if (in.strong)
        note_strong_read(w, in, l, *t.allocation, t.bit_offset, first_bytes(t.data, bytes));
    }
    const u32 undefined = bytes <= 16 ? undefined_mask(t, bytes) : 0;
    if (in.vec == 1) {
      set_loaded(w, in.dst, l, t.data, in, undefined);
      return;
    }
    u8 data[32];
    std::memcpy(data, t.data, bytes);  // a destination never changes later elements
    for (u32 e = 0; e < in.vec; ++e) {
      const size_t at = size_t{e} * element;
      u32 part = (undefined >> at) & ((1u << element) - 1);
      if (bytes > 16) {
        Target p = t;
        p.bit_offset += at;
        if (p.defined_bytes != nullptr) p.defined_bytes += at;
        part = undefined_mask(p, element);
      }
      set_loaded(w, w.operand(in.pool + e), l, data + at, in, part);
    }
  });
  if (w.cta().launch.remembers()) count_access(w, in, m, address, bytes, kind, false);
}

// Kernel parameters are the same for every lane.
void exec_ld_param(Warp& w, const Instr& in, u32 m) {
  if (in.a.id != 0 || in.vec != 1) {
    exec_ld(w, in, m);
    return;
  }
  const Allocation& params = *w.cta().launch.params;
  const u64 offset = w.lanes<u64>(in.a)[0] + static_cast<u64>(in.imm);
  if (offset + in.access_bytes > params.size || in.access_bytes > 8) {
    exec_ld(w, in, m);
    return;
  }
  const u64 v = read_element(params.host + offset, in.type, in.access_bytes);
  for_each_lane(m, [&](int l) { w.set_value(in.dst, l, v); });
  w.set_defined(in.dst, m);
}

void exec_st(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  const u32 element = in.access_bytes;
  const u32 bytes = element * in.vec;
  if (store_fast(w, in, m, address, bytes)) return;
  Allocation* cache = nullptr;
  Target::Kind kind = Target::Kind::kGlobal;
  const u32 byte_mask = element >= 8 ? 0xff : (1u << element) - 1;
  for_each_lane(m, [&](int l) {
    const Target t = locate(w, in, l, address[l], bytes, true, cache);
    kind = t.kind;
    if (kind == Target::Kind::kShared)
      check_store_race(w, in, m, address, l, t.shared_offset, bytes);
    if (t.allocation != nullptr) check_global(w, in, l, *t.allocation, t.bit_offset, bytes, true);
    for (u32 e = 0; e < in.vec; ++e) {
      const Operand& source = in.vec == 1 ? in.b : w.operand(in.pool + e);
      const size_t at = size_t{e} * element;
      Target p = t;
      p.bit_offset += at;
      if (p.defined_bytes != nullptr) p.defined_bytes += at;
      u8* to = t.data + at;
      u32 undefined = w.undef_of(source, l) & byte_mask;
      if (source.width == 16) {
        std::memcpy(to, w.lanes<u8>(source) + static_cast<size_t>(l) * 16, 16);
        undefined = undefined != 0 ? 0xffff : 0;
      } else {
        const u64 v = w.value(source, l);
        std::memcpy(to, &v, element);
      }
      if (undefined != 0 && kind == Target::Kind::kGlobal) {
        w.report(FindingKind::kUndefinedStore, in, l, "undefined data is stored to global memory");
        undefined = 0;  // said once
      }
      mark(p, element, undefined);
    }
  });
  if (w.cta().launch.remembers()) count_access(w, in, m, address, bytes, kind, true);
}

void exec_prefetch(Warp&, const Instr&, u32) {}

ptx::Space take_space(Modifiers& mods, Instr& in) {
  in.in_cluster = mods.take("shared::cluster");
  if (in.in_cluster) return ptx::Space::kShared;
  switch (mods.take_one({"const", "global", "local", "param", "param::entry", "param::func",
                         "shared", "shared::cta"})) {
    case 0:
      return ptx::Space::kConst;
    case 1:
      return ptx::Space::kGlobal;
    case 2:
      return ptx::Space::kLocal;
    case 3:
    case 4:
    case 5:
      return ptx::Space::kParam;
    case 6:
    case 7:
      return ptx::Space::kShared;
    default:
      return ptx::Space::kGeneric;
  }
}

// Cache hints and orderings change speed, and what counts as a race.
void take_hints(Decoder& dec, Modifiers& mods, Instr& in) {
  while (mods.take_one({"ca",
                        "cg",
                        "cs",
                        "lu",
                        "cv",
                        "wb",
                        "wt",
                        "nc",
                        "L1::evict_normal",
                        "L1::evict_unchanged",
                        "L1::evict_first",
                        "L1::evict_last",
                        "L1::no_allocate",
                        "L2::evict_normal",
                        "L2::evict_first",
                        "L2::evict_last",
                        "L2::cache_hint",
                        "L2::64B",
                        "L2::128B",
                        "L2::256B",
                        "weak",
                        "unified"}) >= 0) {
  }
  mods.take("mmio");  // always with .relaxed.sys
  const int order = mods.take_one({"volatile", "relaxed", "acquire", "release"});
  const int scope = mods.take_one({"cta", "cluster", "gpu", "sys"});
  in.strong = order >= 0;
  // Volatile is relaxed with system scope, section 8.2.
  in.scope = order == 0 ? u8{kGpuScope} : in.strong ? scope_of(scope) : u8{kWeak};
  in.acquires = order == 2;
  in.releases = order == 3;
  const bool beyond_cta = order == 0 || scope > 0;
  if (in.strong && beyond_cta &&
      (in.space == ptx::Space::kGlobal || in.space == ptx::Space::kGeneric))
    dec.program().needs_order = true;
}

u8 take_vector(Modifiers& mods) {
  switch (mods.take_one({"v2", "v4", "v8"})) {
    case 0:
      return 2;
    case 1:
      return 4;
    case 2:
      return 8;
    default:
      return 1;
  }
}

void decode_ld(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kLoad;
  in.space = take_space(mods, in);
  take_hints(dec, mods, in);
  in.vec = take_vector(mods);
  in.type = mods.take_type();
  in.access_bytes = static_cast<u8>(ptx::type_bytes(in.type));
  if (in.access_bytes == 0 || st.operands.size() < 2) dec.fail("ld without a known type");
  if (in.vec == 1) {
    in.dst = dec.dest(st.operands[0], in.access_bytes);
  } else {
    dec.pool_dests(st.operands[0], in, in.access_bytes);
    if (in.pool_count != in.vec) dec.fail("vector length does not match");
  }
  dec.address(st.operands[1], in);
  lower_granule(dec, in);
  in.fn = in.space == ptx::Space::kParam ? exec_ld_param : exec_ld;
}

void decode_st(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  if (mods.has("async")) {
    decode_async_value(dec, st, mods, in);
    return;
  }
  in.cls = InstrClass::kStore;
  in.space = take_space(mods, in);
  take_hints(dec, mods, in);
  in.vec = take_vector(mods);
  in.type = mods.take_type();
  in.access_bytes = static_cast<u8>(ptx::type_bytes(in.type));
  if (in.access_bytes == 0 || st.operands.size() < 2) dec.fail("st without a known type");
  dec.address(st.operands[0], in);
  if (in.vec == 1) {
    in.b = dec.source(st.operands[1], in.type);
  } else {
    dec.pool_sources(st.operands[1], in.type, in);
    if (in.pool_count != in.vec) dec.fail("vector length does not match");
  }
  lower_granule(dec, in);
  in.fn = exec_st;
}

void decode_prefetch(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kOther;
  while (!mods.take_any().empty()) {
  }
  dec.address(st.operands.at(0), in);
  in.fn = exec_prefetch;
}

// createpolicy: the policy itself has no effect on results.
void exec_policy(Warp& w, const Instr& in, u32 m) {
  for_each_lane(m, [&](int l) { w.set_value(in.dst, l, 0x12f0000000000000ull); });
  w.set_defined(in.dst, m);
}
void decode_policy(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kOther;
  while (!mods.take_any().empty()) {
  }
  in.dst = dec.dest(st.operands.at(0), 8);
  in.fn = exec_policy;
}

}  // namespace

void register_memory(OpcodeMap& t) {
  t["ld"] = t["ldu"] = decode_ld;
  t["st"] = decode_st;
  t["prefetch"] = t["prefetchu"] = t["applypriority"] = t["discard"] = decode_prefetch;
  t["createpolicy"] = decode_policy;
}

}  // namespace vgpu::ops
