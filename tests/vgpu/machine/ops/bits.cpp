// Logic, shifts and bit fields. PTX ISA 9.0 sections 9.7.8 and 9.7.1.13 to 9.7.1.22.
#include <algorithm>

#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

struct And {
  template <class T>
  static T apply(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <class T>
  static T apply(T a, T b) {
    return a | b;
  }
};
struct Xor {
  template <class T>
  static T apply(T a, T b) {
    return a ^ b;
  }
};

template <class Op, class T>
void exec_logic(Warp& w, const Instr& in, u32 m) {
  binary<T, T>(w, in, m, [](T a, T b) { return Op::template apply<T>(a, b); });
}
template <class Op>
void exec_logic_pred(Warp& w, const Instr& in, u32 m) {
  write_pred(w, in.dst, m, Op::template apply<u32>(read_pred(w, in.a), read_pred(w, in.b)));
  const u32 ua = w.undef(in.a), ub = w.undef(in.b);
  u32 undefined = (ua | ub) & m;
  if (undefined != 0) {  // a defined operand can decide alone
    const u32 a = read_pred(w, in.a), b = read_pred(w, in.b);
    if (std::is_same_v<Op, And>) undefined &= ~((~a & ~ua) | (~b & ~ub));
    if (std::is_same_v<Op, Or>) undefined &= ~((a & ~ua) | (b & ~ub));
  }
  w.set_defined(in.dst, m & ~undefined);
  w.set_undefined(in.dst, undefined);
}
template <class T>
void exec_not(Warp& w, const Instr& in, u32 m) {
  unary<T, T>(w, in, m, [](T a) { return static_cast<T>(~a); });
}
void exec_not_pred(Warp& w, const Instr& in, u32 m) {
  write_pred(w, in.dst, m, ~read_pred(w, in.a));
  w.shadow(in, m);
}
template <class T>
void exec_cnot(Warp& w, const Instr& in, u32 m) {
  unary<T, T>(w, in, m, [](T a) { return static_cast<T>(a == 0 ? 1 : 0); });
}
template <class T>
void exec_shl(Warp& w, const Instr& in, u32 m) {
  const T* a = w.lanes<T>(in.a);
  const u32* b = w.lanes<u32>(in.b);
  for_lanes(w, m, w.lanes<T>(in.dst), [=](int l) {
    return b[l] >= 8 * sizeof(T) ? T{0} : static_cast<T>(a[l] << (b[l] & (8 * sizeof(T) - 1)));
  });
  w.shadow(in, m);
}
template <class T>
void exec_shr(Warp& w, const Instr& in, u32 m) {
  const T* a = w.lanes<T>(in.a);
  const u32* b = w.lanes<u32>(in.b);
  for_lanes(w, m, w.lanes<T>(in.dst), [=](int l) {
    const u32 n = std::min<u32>(b[l], 8 * sizeof(T));
    return n == 8 * sizeof(T) ? static_cast<T>(a[l] < 0 ? -1 : 0) : static_cast<T>(a[l] >> n);
  });
  w.shadow(in, m);
}
void exec_lop3(Warp& w, const Instr& in, u32 m) {
  const u32 table = static_cast<u32>(in.imm);
  ternary<u32, u32, u32>(w, in, m, [table](u32 a, u32 b, u32 c) {
    u32 r = 0;
    for (u32 i = 0; i < 8; ++i) {
      if (((table >> i) & 1) == 0) continue;
      r |= ((i & 4) != 0 ? a : ~a) & ((i & 2) != 0 ? b : ~b) & ((i & 1) != 0 ? c : ~c);
    }
    return r;
  });
}
template <bool kRight, bool kClamp>
void exec_shf(Warp& w, const Instr& in, u32 m) {
  ternary<u32, u32, u32>(w, in, m, [](u32 a, u32 b, u32 c) {
    const u32 n = kClamp ? std::min<u32>(c, 32) : c & 31;
    const u64 both = u64{b} << 32 | a;
    return kRight ? static_cast<u32>(both >> n) : static_cast<u32>((both << n) >> 32);
  });
}
// prmt modes: default, f4e, b4e, rc8, ecl, ecr, rc16.
u32 permute(u32 a, u32 b, u32 c, int mode) {
  const u64 both = u64{b} << 32 | a;
  const u32 s = c & 3;
  u32 out = 0;
  for (u32 i = 0; i < 4; ++i) {
    u32 pick = 0;
    switch (mode) {
      case 0:
        pick = (c >> (4 * i)) & 15;
        break;
      case 1:
        pick = s + i;
        break;
      case 2:
        pick = (8 + s - i) & 7;
        break;
      case 3:
        pick = s;
        break;
      case 4:
        pick = std::max(i, s);
        break;
      case 5:
        pick = std::min(i, s);
        break;
      default:
        pick = (s & 1) * 2 + (i & 1);
        break;
    }
    u32 byte = static_cast<u32>(both >> (8 * (pick & 7))) & 0xff;
    if (mode == 0 && (pick & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
    out |= byte << (8 * i);
  }
  return out;
}
void exec_prmt(Warp& w, const Instr& in, u32 m) {
  const u32* a = w.lanes<u32>(in.a);
  const u32* b = w.lanes<u32>(in.b);
  const u32* c = w.lanes<u32>(in.c);
  const int mode = in.sub;
  const u32 maybe = (w.undef(in.a) | w.undef(in.b) | w.undef(in.c)) & m;
  u32 undefined[kLanes] = {};
  for_each_lane(maybe, [&](int l) {  // the same choice, made on undefined bytes
    const auto spread = [](u32 bytes) {
      u32 out = 0;
      for (int i = 0; i < 4; ++i) out |= (bytes >> i) & 1 ? 0xffu << (8 * i) : 0;
      return out;
    };
    const u32 moved = permute(spread(w.undef_of(in.a, l)), spread(w.undef_of(in.b, l)), c[l], mode);
    for (int i = 0; i < 4; ++i) undefined[l] |= (moved >> (8 * i)) & 0xff ? 1u << i : 0;
    if (w.undef_of(in.c, l) != 0) undefined[l] = 0xf;
  });
  for_lanes(w, m, w.lanes<u32>(in.dst), [=](int l) { return permute(a[l], b[l], c[l], mode); });
  w.set_defined(in.dst, m);
  for_each_lane(maybe, [&](int l) { w.set_undef(in.dst, l, undefined[l]); });
}
template <class T>
T extract_field(T a, u32 start, u32 length) {
  constexpr u32 kBits = 8 * sizeof(T);
  using U = std::make_unsigned_t<T>;
  if (length == 0) return 0;
  const u32 last = std::min(start + length - 1, kBits - 1);
  const bool sign = std::is_signed_v<T> && ((static_cast<U>(a) >> last) & 1) != 0;
  U out = start >= kBits ? U{0} : static_cast<U>(static_cast<U>(a) >> start);
  const u32 kept = start >= kBits ? 0 : std::min(length, kBits - start);
  if (kept < kBits) {
    const U low = static_cast<U>((U{1} << kept) - 1);
    out = sign ? static_cast<U>((out & low) | ~low) : static_cast<U>(out & low);
  }
  return static_cast<T>(out);
}
template <class T>
void exec_bfe_field(Warp& w, const Instr& in, u32 m) {
  const T* a = w.lanes<T>(in.a);
  const u32* b = w.lanes<u32>(in.b);
  const u32* c = w.lanes<u32>(in.c);
  for_lanes(w, m, w.lanes<T>(in.dst),
            [=](int l) { return extract_field<T>(a[l], b[l] & 0xff, c[l] & 0xff); });
  w.shadow(in, m);
}
template <class T>
void exec_bfi(Warp& w, const Instr& in, u32 m) {
  const T* a = w.lanes<T>(in.a);
  const T* b = w.lanes<T>(in.b);
  const u32* c = w.lanes<u32>(in.c);
  const u32* d = w.lanes<u32>(in.d);
  constexpr u32 kBits = 8 * sizeof(T);
  for_lanes(w, m, w.lanes<T>(in.dst), [=](int l) {
    const u32 start = c[l] & 0xff, length = std::min<u32>(d[l] & 0xff, kBits);
    if (start >= kBits || length == 0) return b[l];
    const T low = length == kBits ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << length) - 1);
    const T field = static_cast<T>(low << start);
    return static_cast<T>((b[l] & ~field) | ((a[l] << start) & field));
  });
  w.shadow(in, m);
}
template <class T>
void exec_popc(Warp& w, const Instr& in, u32 m) {
  unary<u32, T>(w, in, m, [](T a) { return static_cast<u32>(std::popcount(a)); });
}
template <class T>
void exec_clz(Warp& w, const Instr& in, u32 m) {
  unary<u32, T>(w, in, m, [](T a) { return static_cast<u32>(std::countl_zero(a)); });
}
template <class T>
void exec_brev(Warp& w, const Instr& in, u32 m) {
  unary<T, T>(w, in, m, [](T a) {
    T out = 0;
    for (size_t i = 0; i < 8 * sizeof(T); ++i) out = static_cast<T>(out << 1 | ((a >> i) & 1));
    return out;
  });
}
template <class T>
void exec_bfind(Warp& w, const Instr& in, u32 m) {
  const bool shift = in.flag;
  using U = std::make_unsigned_t<T>;
  unary<u32, T>(w, in, m, [shift](T a) {
    const U v = static_cast<U>(std::is_signed_v<T> && a < 0 ? ~a : a);
    if (v == 0) return 0xffffffffu;
    const u32 zeros = static_cast<u32>(std::countl_zero(v));
    return shift ? zeros : static_cast<u32>(8 * sizeof(T)) - 1 - zeros;
  });
}
void exec_fns(Warp& w, const Instr& in, u32 m) {
  ternary<u32, u32, u32>(w, in, m, [](u32 mask, u32 base, u32 raw_offset) {
    const i32 offset = static_cast<i32>(raw_offset);
    if (offset == 0) return (mask >> (base & 31)) & 1 ? base : 0xffffffffu;
    const i32 step = offset > 0 ? 1 : -1;
    i32 left = std::abs(offset);
    for (i32 pos = static_cast<i32>(base); pos >= 0 && pos < 32; pos += step)
      if (((mask >> pos) & 1) != 0 && --left == 0) return static_cast<u32>(pos);
    return 0xffffffffu;
  });
}
void exec_bmsk(Warp& w, const Instr& in, u32 m) {
  const bool clamp = in.flag;
  binary<u32, u32>(w, in, m, [clamp](u32 a, u32 b) {
    if (!clamp) {
      a &= 31;
      b &= 31;
    }
    if (a >= 32 || b == 0) return 0u;
    const u64 low = b >= 32 ? 0xffffffffull : (u64{1} << b) - 1;
    return static_cast<u32>(low << a);
  });
}
void exec_szext(Warp& w, const Instr& in, u32 m) {
  const bool clamp = in.flag, is_signed = in.type == Type::kS32;
  binary<u32, u32>(w, in, m, [=](u32 a, u32 b) {
    if (clamp && b >= 32) return a;
    b &= 31;
    if (b == 0) return 0u;
    const u32 low = a & ((1u << b) - 1);
    const bool sign = is_signed && ((a >> (b - 1)) & 1) != 0;
    return sign ? low | ~((1u << b) - 1) : low;
  });
}

template <class Op>
void decode_logic(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const Type t = mods.take_type();
  in.cls = InstrClass::kLogic;
  in.shadow = std::is_same_v<Op, And>  ? ShadowRule::kAnd
              : std::is_same_v<Op, Or> ? ShadowRule::kOr
                                       : ShadowRule::kBitwise;
  decode_operands(dec, st, in, t, {t, t});
  switch (t) {
    case Type::kPred:
      in.fn = exec_logic_pred<Op>;
      break;
    case Type::kB16:
      in.fn = exec_logic<Op, u16>;
      break;
    case Type::kB32:
      in.fn = exec_logic<Op, u32>;
      break;
    case Type::kB64:
      in.fn = exec_logic<Op, u64>;
      break;
    default:
      break;
  }
}
void decode_not(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool logical = mods.name() == "cnot";
  const Type t = mods.take_type();
  in.cls = InstrClass::kLogic;
  if (!logical) in.shadow = ShadowRule::kBitwise;
  decode_operands(dec, st, in, t, {t});
  switch (t) {
    case Type::kPred:
      in.fn = logical ? nullptr : exec_not_pred;
      break;
    case Type::kB16:
      in.fn = logical ? exec_cnot<u16> : exec_not<u16>;
      break;
    case Type::kB32:
      in.fn = logical ? exec_cnot<u32> : exec_not<u32>;
      break;
    case Type::kB64:
      in.fn = logical ? exec_cnot<u64> : exec_not<u64>;
      break;
    default:
      break;
  }
}
void decode_shift(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool right = mods.name() == "shr";
  const Type t = mods.take_type();
  in.cls = InstrClass::kLogic;
  in.shadow = ShadowRule::kShift;
  in.sub = right ? 1 : 0;
  in.flag = ptx::type_is_signed(t);
  decode_operands(dec, st, in, t, {t, Type::kU32});
  switch (t) {
    case Type::kB16:
    case Type::kU16:
      in.fn = right ? exec_shr<u16> : exec_shl<u16>;
      break;
    case Type::kS16:
      in.fn = right ? exec_shr<i16> : exec_shl<u16>;
      break;
    case Type::kB32:
    case Type::kU32:
      in.fn = right ? exec_shr<u32> : exec_shl<u32>;
      break;
    case Type::kS32:
      in.fn = right ? exec_shr<i32> : exec_shl<u32>;
      break;
    case Type::kB64:
    case Type::kU64:
      in.fn = right ? exec_shr<u64> : exec_shl<u64>;
      break;
    case Type::kS64:
      in.fn = right ? exec_shr<i64> : exec_shl<u64>;
      break;
    default:
      break;
  }
}
void exec_lop3_pred(Warp& w, const Instr& in, u32 m) {
  exec_lop3(w, in, m);
  const u32* d = w.lanes<u32>(in.dst);
  u32 nonzero = 0;
  for (int l = 0; l < kLanes; ++l) nonzero |= (d[l] != 0 ? 1u : 0u) << l;
  const u32 q = read_pred(w, in.d);
  write_pred(w, in.dst2, m, in.bool_op == BoolOp::kAnd ? nonzero & q : nonzero | q);
}
void decode_lop3(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kLogic;
  in.shadow = ShadowRule::kBitwise;
  const int bool_op = mods.take_one({"and", "or"});
  mods.take_type();
  ptx::Statement plain = st;
  if (bool_op >= 0) {  // d|p, a, b, c, table, q
    require_operands(dec, st, 6);
    in.bool_op = bool_op == 0 ? BoolOp::kAnd : BoolOp::kOr;
    in.d = dec.predicate(st.operands[5]);
    in.dst2 = dec.dest(st.operands[0].elements.at(1), 0);
    plain.operands[0] = st.operands[0].elements[0];
    plain.operands.resize(5);
  }
  require_operands(dec, plain, 5);
  in.imm = dec.constant(plain.operands[4]);
  plain.operands.pop_back();
  decode_operands(dec, plain, in, Type::kB32, {Type::kB32, Type::kB32, Type::kB32});
  in.fn = bool_op >= 0 ? exec_lop3_pred : exec_lop3;
}
void decode_shf(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kLogic;
  const bool right = mods.take_one({"l", "r"}) == 1;
  const bool clamp = mods.take_one({"wrap", "clamp"}) == 1;
  mods.take_type();
  decode_operands(dec, st, in, Type::kB32, {Type::kB32, Type::kB32, Type::kU32});
  in.fn = right ? (clamp ? exec_shf<true, true> : exec_shf<true, false>)
                : (clamp ? exec_shf<false, true> : exec_shf<false, false>);
}
void decode_prmt(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kLogic;
  mods.take_type();
  in.sub = static_cast<u8>(mods.take_one({"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"}) + 1);
  decode_operands(dec, st, in, Type::kB32, {Type::kB32, Type::kB32, Type::kB32});
  in.fn = exec_prmt;
}
void decode_bfe(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const Type t = mods.take_type();
  in.cls = InstrClass::kLogic;
  decode_operands(dec, st, in, t, {t, Type::kU32, Type::kU32});
  switch (t) {
    case Type::kU32:
      in.fn = exec_bfe_field<u32>;
      break;
    case Type::kS32:
      in.fn = exec_bfe_field<i32>;
      break;
    case Type::kU64:
      in.fn = exec_bfe_field<u64>;
      break;
    case Type::kS64:
      in.fn = exec_bfe_field<i64>;
      break;
    default:
      break;
  }
}
void decode_bfi(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const Type t = mods.take_type();
  in.cls = InstrClass::kLogic;
  decode_operands(dec, st, in, t, {t, t, Type::kU32, Type::kU32});
  in.fn = t == Type::kB32 ? exec_bfi<u32> : t == Type::kB64 ? exec_bfi<u64> : nullptr;
}
void decode_count(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const std::string_view name = mods.name();
  const Type t = mods.take_type();
  const bool wide = ptx::type_bytes(t) == 8;
  in.cls = InstrClass::kLogic;
  decode_operands(dec, st, in, name == "brev" ? t : Type::kU32, {t});
  if (name == "popc") in.fn = wide ? exec_popc<u64> : exec_popc<u32>;
  if (name == "clz") in.fn = wide ? exec_clz<u64> : exec_clz<u32>;
  if (name == "brev") in.fn = wide ? exec_brev<u64> : exec_brev<u32>;
}
void decode_bfind(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.flag = mods.take("shiftamt");
  const Type t = mods.take_type();
  in.cls = InstrClass::kLogic;
  decode_operands(dec, st, in, Type::kU32, {t});
  switch (t) {
    case Type::kU32:
      in.fn = exec_bfind<u32>;
      break;
    case Type::kS32:
      in.fn = exec_bfind<i32>;
      break;
    case Type::kU64:
      in.fn = exec_bfind<u64>;
      break;
    case Type::kS64:
      in.fn = exec_bfind<i64>;
      break;
    default:
      break;
  }
}
void decode_fns(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  mods.take_type();
  in.cls = InstrClass::kLogic;
  decode_operands(dec, st, in, Type::kB32, {Type::kB32, Type::kB32, Type::kS32});
  in.fn = exec_fns;
}
void decode_bmsk(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool szext = mods.name() == "szext";
  in.flag = mods.take_one({"clamp", "wrap"}) == 0;
  in.type = mods.take_type();
  in.cls = InstrClass::kLogic;
  decode_operands(dec, st, in, Type::kB32, {Type::kB32, Type::kB32});
  in.fn = szext ? exec_szext : exec_bmsk;
}

}  // namespace

void register_bits(OpcodeMap& t) {
  t["and"] = decode_logic<And>;
  t["or"] = decode_logic<Or>;
  t["xor"] = decode_logic<Xor>;
  t["not"] = t["cnot"] = decode_not;
  t["shl"] = t["shr"] = decode_shift;
  t["lop3"] = decode_lop3;
  t["shf"] = decode_shf;
  t["prmt"] = decode_prmt;
  t["bfe"] = decode_bfe;
  t["bfi"] = decode_bfi;
  t["popc"] = t["clz"] = t["brev"] = decode_count;
  t["bfind"] = decode_bfind;
  t["fns"] = decode_fns;
  t["bmsk"] = t["szext"] = decode_bmsk;
}

}  // namespace vgpu::ops
