// Exchange within a warp. PTX ISA 9.0 sections 9.7.9.6 (shfl.sync), 9.7.13.9 (vote.sync),
// 9.7.13.10 (match.sync), 9.7.13.11 (activemask), 9.7.13.12 (redux.sync), 9.7.13.15 (elect.sync).
//
// Handlers get the lanes that execute together under one member mask.
#include <algorithm>
#include <cmath>

#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

// in.a value, in.b lane argument, in.d clamp and segment mask.
void exec_shfl(Warp& w, const Instr& in, u32 m) {
  u32 a[kLanes], undefined[kLanes], out[kLanes], out_undefined[kLanes];
  const u32 maybe = w.undef(in.a);
  for (int l = 0; l < kLanes; ++l) {
    a[l] = w.lanes<u32>(in.a)[l];
    undefined[l] = maybe == 0 ? 0 : w.undef_of(in.a, l);
  }
  u32 in_range = 0;
  for_each_lane(m, [&](int l) {
    const u32 lane = static_cast<u32>(l);
    const u32 b = w.lanes<u32>(in.b)[l] & 31, c = w.lanes<u32>(in.d)[l];
    const u32 clamp = c & 31, segment = (c >> 8) & 31;
    const u32 max_lane = (lane & segment) | (clamp & ~segment);
    const u32 min_lane = lane & segment;
    i32 j = 0;
    bool p = false;
    switch (in.sub) {
      case 0:  // up
        j = l - static_cast<i32>(b);
        p = j >= static_cast<i32>(max_lane);
        break;
      case 1:  // down
        j = l + static_cast<i32>(b);
        p = j <= static_cast<i32>(max_lane);
        break;
      case 2:  // bfly
        j = static_cast<i32>(lane ^ b);
        p = j <= static_cast<i32>(max_lane);
        break;
      default:  // idx
        j = static_cast<i32>(min_lane | (b & ~segment));
        p = j <= static_cast<i32>(max_lane);
        break;
    }
    if (!p) j = l;
    out[l] = a[j];
    // The value of a lane that takes no part is undefined.
    out_undefined[l] = ((m >> j) & 1) != 0 ? undefined[j] : 0xf;
    if (((w.undef(in.b) | w.undef(in.d)) >> l) & 1) out_undefined[l] = 0xf;
    in_range |= (p ? 1u : 0u) << l;
  });
  for_each_lane(m, [&](int l) {
    w.lanes<u32>(in.dst)[l] = out[l];
    w.set_undef(in.dst, l, out_undefined[l]);
  });
  if (in.dst2.valid) {
    write_pred(w, in.dst2, m, in_range);
    w.set_defined(in.dst2, m);
  }
}
void decode_shfl(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  if (!mods.take("sync")) dec.fail("shfl without .sync is not supported");
  in.sub = static_cast<u8>(mods.take_one({"up", "down", "bfly", "idx"}));
  mods.take_type();
  require_operands(dec, st, 5);
  in.cls = InstrClass::kShuffle;
  in.flow = Flow::kCollective;
  const ptx::Operand& d = st.operands[0];
  if (d.kind == ptx::Operand::Kind::kPair) {
    in.dst = dec.dest(d.elements[0]);
    in.dst2 = dec.dest(d.elements[1], 0);
  } else {
    in.dst = dec.dest(d);
  }
  in.a = dec.source(st.operands[1], Type::kB32);
  in.b = dec.source(st.operands[2], Type::kB32);
  in.d = dec.source(st.operands[3], Type::kB32);
  in.c = dec.source(st.operands[4], Type::kB32);
  in.fn = in.sub > 3 ? nullptr : exec_shfl;
}

void exec_vote(Warp& w, const Instr& in, u32 m) {
  const u32 p = read_pred(w, in.a) & m;
  const bool undefined = (w.undef(in.a) & m) != 0;
  if (in.sub == 3) {
    for_each_lane(m, [&](int l) { w.lanes<u32>(in.dst)[l] = p; });
  } else {
    const bool r = in.sub == 0 ? p == m : in.sub == 1 ? p != 0 : p == 0 || p == m;
    write_pred(w, in.dst, m, r ? kAllLanes : 0);
  }
  if (undefined) {
    w.set_undefined(in.dst, m);
  } else {
    w.set_defined(in.dst, m);
  }
}
void decode_vote(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  if (!mods.take("sync")) dec.fail("vote without .sync is not supported");
  in.sub = static_cast<u8>(mods.take_one({"all", "any", "uni", "ballot"}));
  mods.take_type();
  require_operands(dec, st, 3);
  in.cls = InstrClass::kShuffle;
  in.flow = Flow::kCollective;
  in.dst = dec.dest(st.operands[0], in.sub == 3 ? 4 : 0);
  in.a = dec.predicate(st.operands[1]);
  in.c = dec.source(st.operands[2], Type::kB32);
  in.fn = in.sub > 3 ? nullptr : exec_vote;
}

void exec_match(Warp& w, const Instr& in, u32 m) {
  u32 same[kLanes] = {};
  for_each_lane(m, [&](int l) {
    for_each_lane(m, [&](int o) {
      if (w.value(in.a, l) == w.value(in.a, o)) same[l] |= 1u << o;
    });
  });
  const bool undefined = (w.undef(in.a) & m) != 0;
  u32 all = 0;
  for_each_lane(m, [&](int l) { all |= (same[l] == m ? 1u : 0u) << l; });
  for_each_lane(m, [&](int l) {
    w.lanes<u32>(in.dst)[l] = in.sub == 0 ? same[l] : all == m ? m : 0;
    w.set_undef(in.dst, l, undefined ? 0xf : 0);
  });
  if (in.dst2.valid) {
    write_pred(w, in.dst2, m, all == m ? kAllLanes : 0);
    w.set_defined(in.dst2, m);
    if (undefined) w.set_undefined(in.dst2, m);
  }
}
void decode_match(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.sub = static_cast<u8>(mods.take_one({"any", "all"}));
  mods.take("sync");
  const Type t = mods.take_type();
  require_operands(dec, st, 3);
  in.cls = InstrClass::kShuffle;
  in.flow = Flow::kCollective;
  const ptx::Operand& d = st.operands[0];
  if (d.kind == ptx::Operand::Kind::kPair) {
    in.dst = dec.dest(d.elements[0]);
    in.dst2 = dec.dest(d.elements[1], 0);
  } else {
    in.dst = dec.dest(d);
  }
  in.a = dec.source(st.operands[1], t);
  in.c = dec.source(st.operands[2], Type::kB32);
  in.fn = in.sub > 1 ? nullptr : exec_match;
}

void exec_redux(Warp& w, const Instr& in, u32 m) {
  const u32* a = w.lanes<u32>(in.a);
  const int first = std::countr_zero(m);
  u32 r = a[first];
  for_each_lane(m & (m - 1), [&](int l) {
    const u32 v = a[l];
    const i32 rs = static_cast<i32>(r), vs = static_cast<i32>(v);
    const bool is_signed = in.type == Type::kS32;
    switch (in.sub) {
      case 0:
        r += v;
        break;
      case 1:
        r = is_signed ? static_cast<u32>(std::min(rs, vs)) : std::min(r, v);
        break;
      case 2:
        r = is_signed ? static_cast<u32>(std::max(rs, vs)) : std::max(r, v);
        break;
      case 3:
        r &= v;
        break;
      case 4:
        r |= v;
        break;
      default:
        r ^= v;
        break;
    }
  });
  const bool undefined = (w.undef(in.a) & m) != 0;
  for_each_lane(m, [&](int l) {
    w.lanes<u32>(in.dst)[l] = r;
    w.set_undef(in.dst, l, undefined ? 0xf : 0);
  });
}
void decode_redux(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  mods.take("sync");
  in.sub = static_cast<u8>(mods.take_one({"add", "min", "max", "and", "or", "xor"}));
  in.type = mods.take_type();
  require_operands(dec, st, 3);
  in.cls = InstrClass::kShuffle;
  in.flow = Flow::kCollective;
  in.dst = dec.dest(st.operands[0]);
  in.a = dec.source(st.operands[1], Type::kB32);
  in.c = dec.source(st.operands[2], Type::kB32);
  in.fn = in.sub > 5 || ptx::type_is_float(in.type) ? nullptr : exec_redux;
}

void exec_activemask(Warp& w, const Instr& in, u32 m) {
  for_each_lane(m, [&](int l) { w.lanes<u32>(in.dst)[l] = m; });
  w.set_defined(in.dst, m);
}
void decode_activemask(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  mods.take_type();
  require_operands(dec, st, 1);
  in.cls = InstrClass::kShuffle;
  in.dst = dec.dest(st.operands[0]);
  in.fn = exec_activemask;
}

}  // namespace

void register_collective(OpcodeMap& t) {
  t["shfl"] = decode_shfl;
  t["vote"] = decode_vote;
  t["match"] = decode_match;
  t["redux"] = decode_redux;
  t["activemask"] = decode_activemask;
}

}  // namespace vgpu::ops
