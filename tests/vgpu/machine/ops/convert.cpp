// Conversions. PTX ISA 9.0 sections 9.7.9.21 (cvt), 9.7.9.22 (cvt.pack), 9.7.9.20 (cvta).
#include <algorithm>
#include <cmath>
#include <limits>

#include "machine/cluster.h"
#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

const MiniFloat* small_format(Type t) {
  switch (t) {
    case Type::kF16:
    case Type::kF16x2:
      return &kF16;
    case Type::kBf16:
    case Type::kBf16x2:
      return &kBf16;
    case Type::kTf32:
      return &kTf32;
    case Type::kE4m3x2:
      return &kE4m3;
    case Type::kE5m2x2:
      return &kE5m2;
    case Type::kE3m2x2:
      return &kE3m2;
    case Type::kE2m3x2:
      return &kE2m3;
    case Type::kE2m1x2:
      return &kE2m1;
    default:
      return nullptr;
  }
}

i64 sign_extended(Type t, u64 raw) {
  switch (t) {
    case Type::kS8:
      return static_cast<i8>(raw);
    case Type::kS16:
      return static_cast<i16>(raw);
    case Type::kS32:
      return static_cast<i32>(raw);
    default:
      return static_cast<i64>(raw);
  }
}
u64 zero_extended(Type t, u64 raw) {
  const int bytes = ptx::type_bytes(t);
  return bytes >= 8 ? raw : raw & ((u64{1} << (8 * bytes)) - 1);
}

double round_integral(double v, Rounding r) {
  switch (r) {
    case Rounding::kZero:
      return std::trunc(v);
    case Rounding::kDown:
      return std::floor(v);
    case Rounding::kUp:
      return std::ceil(v);
    default:
      return std::nearbyint(v);
  }
}

double load_float(const Instr& in, Type t, u64 raw) {
  switch (t) {
    case Type::kF64:
      return bits<double>(raw);
    case Type::kF32: {
      const float f = bits<float>(static_cast<u32>(raw));
      return in.ftz ? flush(f) : f;
    }
    case Type::kF16:
      return half_to_float(static_cast<u16>(raw));
    case Type::kBf16:
      return bf16_to_float(static_cast<u16>(raw));
    default:
      return decode(kTf32, static_cast<u32>(raw) >> 13);
  }
}
u64 store_float(const Instr& in, Type t, double v) {
  if (in.sat) v = v > 0 ? (v > 1 ? 1 : v) : 0;
  if (in.relu && (v < 0 || (v == 0 && std::signbit(v)))) v = 0;
  switch (t) {
    case Type::kF64:
      return bits<u64>(v);
    case Type::kF32: {
      if (std::isnan(v)) return kCanonicalNan;
      const u32 code = encode(kF32, v, in.rounding, in.flag);
      return in.ftz ? bits<u32>(flush(bits<float>(code))) : code;
    }
    case Type::kTf32: {
      // The ISA has one NaN. With .rna an H100 cuts the source's own off instead.
      if (std::isnan(v))
        return in.rounding == Rounding::kNearestAway
                   ? bits<u32>(static_cast<float>(v)) & 0xffffe000u
                   : kCanonicalNan;
      return u64{encode(kTf32, v, in.rounding, in.flag)} << 13;
    }
    default:
      return encode(*small_format(t), v, in.rounding, in.flag);
  }
}

// Integers that fit no double exactly need their own rounding to f32 and f64.
u64 integer_to_float(const Instr& in, bool negative, u64 magnitude) {
  const int target_bits = in.type == Type::kF64 ? 53 : 24;
  const int width = 64 - std::countl_zero(magnitude);
  if (width > target_bits) {
    // Fold the lost bits into one sticky bit two below the last place, then round from double.
    const int drop = width - target_bits - 2;
    if (drop > 0 && target_bits + 2 <= 53) {
      const u64 low = magnitude & ((u64{1} << drop) - 1);
      magnitude = (magnitude >> drop | (low != 0 ? 1 : 0)) << drop;
    } else if (target_bits == 53) {
      const int lost = width - 53;
      const u64 rest = magnitude & ((u64{1} << lost) - 1), half = u64{1} << (lost - 1);
      u64 kept = magnitude >> lost;
      const bool up = in.rounding == Rounding::kNearestEven
                          ? rest > half || (rest == half && (kept & 1) != 0)
                      : in.rounding == Rounding::kDown ? negative && rest != 0
                      : in.rounding == Rounding::kUp   ? !negative && rest != 0
                                                       : false;
      kept += up ? 1 : 0;
      const double v = std::ldexp(static_cast<double>(kept), lost);
      return bits<u64>(negative ? -v : v);
    }
  }
  const double v = static_cast<double>(magnitude);
  return store_float(in, in.type, negative ? -v : v);
}

u64 float_to_integer(const Instr& in, Type t, double v) {
  if (std::isnan(v)) {
    // Zero, but for f64 sources and 64-bit results, which give the top bit.
    const int bytes = ptx::type_bytes(t);
    return in.type2 == Type::kF64 || bytes == 8 ? u64{1} << (8 * bytes - 1) : 0;
  }
  v = round_integral(v, in.rounding);
  const auto clamp = [v](double low, double high, u64 at_low, u64 at_high) -> std::pair<bool, u64> {
    if (v <= low) return {true, at_low};
    if (v >= high) return {true, at_high};
    return {false, 0};
  };
  std::pair<bool, u64> edge;
  switch (t) {
    case Type::kU8:
      edge = clamp(0, 255, 0, 255);
      break;
    case Type::kS8:
      edge = clamp(-128, 127, static_cast<u64>(i64{-128}), 127);
      break;
    case Type::kU16:
      edge = clamp(0, 65535, 0, 65535);
      break;
    case Type::kS16:
      edge = clamp(-32768, 32767, static_cast<u64>(i64{-32768}), 32767);
      break;
    case Type::kU32:
      edge = clamp(0, 4294967295.0, 0, 0xffffffffu);
      break;
    case Type::kS32:
      edge = clamp(-2147483648.0, 2147483647.0, static_cast<u64>(i64{-2147483648ll}), 0x7fffffff);
      break;
    case Type::kU64:
      edge = clamp(0, 18446744073709551616.0, 0, ~u64{0});
      break;
    default:
      edge = clamp(-9223372036854775808.0, 9223372036854775808.0, u64{1} << 63, ~(u64{1} << 63));
  }
  if (edge.first) return edge.second;
  return ptx::type_is_signed(t) ? static_cast<u64>(static_cast<i64>(v)) : static_cast<u64>(v);
}

u64 saturate_integer(Type from, Type to, u64 raw) {
  const bool is_signed = ptx::type_is_signed(from);
  const i128 v = is_signed ? i128{sign_extended(from, raw)} : i128{zero_extended(from, raw)};
  const int bits_to = 8 * ptx::type_bytes(to);
  const i128 low = ptx::type_is_signed(to) ? -(i128{1} << (bits_to - 1)) : 0;
  const i128 high =
      ptx::type_is_signed(to) ? (i128{1} << (bits_to - 1)) - 1 : (i128{1} << bits_to) - 1;
  return static_cast<u64>(v < low ? low : v > high ? high : v);
}

u64 convert(const Instr& in, u64 raw) {
  const Type to = in.type, from = in.type2;
  const bool float_to = ptx::type_is_float(to), float_from = ptx::type_is_float(from);
  if (float_to && float_from) {
    double v = load_float(in, from, raw);
    if (in.sub == 1) v = round_integral(v, in.rounding);
    if (std::isnan(v) && to == Type::kF64) return u64{0x7ff8000000000000};
    return store_float(in, to, v);
  }
  if (float_from) {
    return float_to_integer(in, to, load_float(in, from, raw));
  }
  if (float_to) {
    const i64 s = ptx::type_is_signed(from) ? sign_extended(from, raw) : 0;
    const bool negative = s < 0;
    const u64 magnitude = negative                    ? 0 - static_cast<u64>(s)
                          : ptx::type_is_signed(from) ? static_cast<u64>(s)
                                                      : zero_extended(from, raw);
    return integer_to_float(in, negative, magnitude);
  }
  if (in.sat) return saturate_integer(from, to, raw);
  return ptx::type_is_signed(from) ? static_cast<u64>(sign_extended(from, raw))
                                   : zero_extended(from, raw);
}

// The value, extended to the register: to a wider register by the destination type's sign.
void store(Warp& w, const Instr& in, int lane, u64 v) {
  if (!ptx::type_is_float(in.type)) {
    v = ptx::type_is_signed(in.type) ? static_cast<u64>(sign_extended(in.type, v))
                                     : zero_extended(in.type, v);
  }
  w.set_value(in.dst, lane, v);
}

void exec_cvt(Warp& w, const Instr& in, u32 m) {
  for_each_lane(m, [&](int l) { store(w, in, l, convert(in, w.value(in.a, l))); });
  w.shadow(in, m);
}

// Hot conversions without the detour through double.
void exec_half_to_float(Warp& w, const Instr& in, u32 m) {
  unary<float, u16>(w, in, m, [](u16 h) { return canonical(half_to_float(h)); });
}
void exec_float_to_half(Warp& w, const Instr& in, u32 m) {
  unary<u16, float>(w, in, m, [](float f) { return float_to_half(f); });
}
void exec_float_to_bf16(Warp& w, const Instr& in, u32 m) {
  unary<u16, float>(w, in, m, [](float f) { return float_to_bf16(f); });
}
void exec_bf16_to_float(Warp& w, const Instr& in, u32 m) {
  unary<float, u16>(w, in, m, [](u16 h) { return canonical(bf16_to_float(h)); });
}
template <class D, class S>
void exec_extend(Warp& w, const Instr& in, u32 m) {
  unary<D, S>(w, in, m, [](S a) { return static_cast<D>(a); });
}
void exec_s32_to_f32(Warp& w, const Instr& in, u32 m) {
  unary<float, i32>(w, in, m, [](i32 a) { return static_cast<float>(a); });
}
void exec_u32_to_f32(Warp& w, const Instr& in, u32 m) {
  unary<float, u32>(w, in, m, [](u32 a) { return static_cast<float>(a); });
}

// Two f32 (or two halves) to a packed pair: a goes to the upper half.
void exec_pack_floats(Warp& w, const Instr& in, u32 m) {
  const MiniFloat& f = *small_format(in.type);
  const int width = in.type == Type::kE2m1x2                              ? 4
                    : in.type == Type::kF16x2 || in.type == Type::kBf16x2 ? 16
                                                                          : 8;
  for_each_lane(m, [&](int l) {
    const auto code = [&](double v) {
      if (in.relu && (v < 0 || (v == 0 && std::signbit(v)))) v = 0;
      return encode(f, v, in.rounding, in.flag);
    };
    u32 out;
    if (in.type2 == Type::kF32) {
      out = code(load_float(in, Type::kF32, w.value(in.a, l))) << width |
            code(load_float(in, Type::kF32, w.value(in.b, l)));
    } else {
      const u32 v = w.lanes<u32>(in.a)[l];
      const Type half = in.type2 == Type::kF16x2 ? Type::kF16 : Type::kBf16;
      out = code(load_float(in, half, v >> 16)) << width | code(load_float(in, half, v & 0xffff));
    }
    w.set_value(in.dst, l, out);
  });
  w.shadow(in, m);
}
void exec_pack_half_fast(Warp& w, const Instr& in, u32 m) {
  binary<u32, float>(
      w, in, m, [](float a, float b) { return u32{float_to_half(a)} << 16 | float_to_half(b); });
}
void exec_pack_bf16_fast(Warp& w, const Instr& in, u32 m) {
  binary<u32, float>(
      w, in, m, [](float a, float b) { return u32{float_to_bf16(a)} << 16 | float_to_bf16(b); });
}
// A packed pair of small floats to two halves.
void exec_unpack_floats(Warp& w, const Instr& in, u32 m) {
  const MiniFloat& f = *small_format(in.type2);
  const MiniFloat& to = *small_format(in.type);
  const int width = in.type2 == Type::kE2m1x2 ? 4 : 8;
  for_each_lane(m, [&](int l) {
    const u32 v = static_cast<u32>(w.value(in.a, l));
    const auto half = [&](u32 code) {
      double x = decode(f, code & ((1u << width) - 1));
      if (in.relu && (x < 0 || (x == 0 && std::signbit(x)))) x = 0;
      return encode(to, x, Rounding::kNearestEven, false);
    };
    w.set_value(in.dst, l, half(v >> width) << 16 | half(v));
  });
  w.shadow(in, m);
}

ExecFn fast_path(const Instr& in) {
  const bool plain = !in.ftz && !in.sat && !in.relu && in.sub == 0 &&
                     in.rounding == Rounding::kNearestEven && !in.flag;
  if (!plain && (ptx::type_is_float(in.type) || in.sat)) return nullptr;
  const auto is = [&](Type to, Type from, int dw, int sw) {
    return in.type == to && in.type2 == from && in.dst.width == dw && in.a.width == sw;
  };
  if (plain && is(Type::kF32, Type::kF16, 4, 2)) return exec_half_to_float;
  if (plain && is(Type::kF16, Type::kF32, 2, 4)) return exec_float_to_half;
  if (plain && is(Type::kF32, Type::kBf16, 4, 2)) return exec_bf16_to_float;
  if (plain && is(Type::kBf16, Type::kF32, 2, 4)) return exec_float_to_bf16;
  if (plain && is(Type::kF32, Type::kS32, 4, 4)) return exec_s32_to_f32;
  if (plain && is(Type::kF32, Type::kU32, 4, 4)) return exec_u32_to_f32;
  if (is(Type::kU64, Type::kU32, 8, 4) || is(Type::kS64, Type::kU32, 8, 4))
    return exec_extend<u64, u32>;
  if (is(Type::kS64, Type::kS32, 8, 4) || is(Type::kU64, Type::kS32, 8, 4))
    return exec_extend<i64, i32>;
  if (is(Type::kU32, Type::kU64, 4, 8) || is(Type::kS32, Type::kU64, 4, 8) ||
      is(Type::kU32, Type::kS64, 4, 8) || is(Type::kS32, Type::kS64, 4, 8))
    return exec_extend<u32, u64>;
  if (is(Type::kU16, Type::kU32, 2, 4)) return exec_extend<u16, u32>;
  if (is(Type::kU32, Type::kU16, 4, 2)) return exec_extend<u32, u16>;
  return nullptr;
}

void decode_cvt(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kConvert;
  if (mods.has("pack")) {
    dec.fail("cvt.pack is decoded by its own family");
  }
  const int integral = mods.take_one({"rni", "rzi", "rmi", "rpi"});
  in.rounding = take_rounding(mods);
  in.ftz = mods.take("ftz");
  in.sat = mods.take("sat");
  in.flag = mods.take("satfinite");
  in.relu = mods.take("relu");
  const bool scaled = mods.has("n2");
  if (scaled) dec.fail("scaled conversions are not supported");
  in.type = mods.take_type();
  in.type2 = mods.take_type();
  if (integral >= 0) {
    constexpr Rounding kModes[] = {Rounding::kNearestEven, Rounding::kZero, Rounding::kDown,
                                   Rounding::kUp};
    in.rounding = kModes[integral];
    in.sub = 1;
  }
  const bool packed_to =
      small_format(in.type) != nullptr && std::string_view(ptx::type_name(in.type)).ends_with("x2");
  const bool packed_from = small_format(in.type2) != nullptr &&
                           std::string_view(ptx::type_name(in.type2)).ends_with("x2");
  if (packed_to && in.type2 == Type::kF32) {
    require_operands(dec, st, 3);
    in.dst = dec.dest(st.operands[0], std::max(2, ptx::type_bytes(in.type)));
    in.a = dec.source(st.operands[1], Type::kF32);
    in.b = dec.source(st.operands[2], Type::kF32);
    const bool plain = in.rounding == Rounding::kNearestEven && !in.relu && !in.flag;
    in.fn = exec_pack_floats;
    if (plain && in.type == Type::kF16x2) in.fn = exec_pack_half_fast;
    if (plain && in.type == Type::kBf16x2) in.fn = exec_pack_bf16_fast;
    return;
  }
  require_operands(dec, st, 2);
  in.dst = dec.dest(st.operands[0], std::max(2, ptx::type_bytes(in.type)));
  in.a = dec.source(st.operands[1], in.type2);
  if (packed_to && (in.type2 == Type::kF16x2 || in.type2 == Type::kBf16x2) &&
      in.type != Type::kF16x2 && in.type != Type::kBf16x2) {
    in.fn = exec_pack_floats;
    return;
  }
  if (packed_from && (in.type == Type::kF16x2 || in.type == Type::kBf16x2)) {
    in.fn = exec_unpack_floats;
    return;
  }
  if (packed_to || packed_from) return;
  const bool float_to = ptx::type_is_float(in.type), float_from = ptx::type_is_float(in.type2);
  if (!float_to && float_from && integral < 0) in.rounding = Rounding::kZero;
  if (!float_to && !float_from && !in.sat) {
    in.shadow = ShadowRule::kConvert;
    in.sub2 = static_cast<u8>(std::min(ptx::type_bytes(in.type), ptx::type_bytes(in.type2)));
    in.flag = ptx::type_is_signed(in.type2);
  }
  in.fn = fast_path(in);
  if (in.fn == nullptr) in.fn = exec_cvt;
}

// 9.7.9.22 cvt.pack.sat.convertType.abType d, a, b [, c].
void exec_cvt_pack(Warp& w, const Instr& in, u32 m) {
  for_each_lane(m, [&](int l) {
    const u32 a = static_cast<u32>(saturate_integer(Type::kS32, in.type, w.value(in.a, l)));
    const u32 b = static_cast<u32>(saturate_integer(Type::kS32, in.type, w.value(in.b, l)));
    const int width = in.type == Type::kU16 || in.type == Type::kS16 ? 16
                      : in.type == Type::kU8 || in.type == Type::kS8 ? 8
                                                                     : 4;
    const u32 low = (1u << width) - 1;
    u32 out = (a & low) << width | (b & low);
    if (in.c.valid) out |= w.lanes<u32>(in.c)[l] << (2 * width);
    w.lanes<u32>(in.dst)[l] = out;
  });
  w.shadow(in, m);
}
void decode_cvt_any(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  if (!mods.take("pack")) {
    decode_cvt(dec, st, mods, in);
    return;
  }
  in.cls = InstrClass::kConvert;
  mods.take("sat");
  in.type = mods.take_type();
  mods.take_type();
  mods.take("b32");
  if (st.operands.size() == 4) {
    decode_operands(dec, st, in, Type::kB32, {Type::kB32, Type::kB32, Type::kB32});
  } else {
    decode_operands(dec, st, in, Type::kB32, {Type::kB32, Type::kB32});
  }
  if (in.type == Type::kU4 || in.type == Type::kS4) dec.fail("4-bit cvt.pack is not supported");
  in.fn = exec_cvt_pack;
}

// 9.7.9.20 cvta: an address of a state space to a generic one, and back.
void exec_cvta(Warp& w, const Instr& in, u32 m) {
  const Launch& launch = w.cta().launch;
  u64 base = 0;
  switch (in.space) {
    case ptx::Space::kShared:
      base = launch.machine.memory.shared_window();
      break;
    case ptx::Space::kLocal:
      base = launch.machine.memory.local_window();
      break;
    case ptx::Space::kParam:
      base = launch.params->base;
      break;
    default:
      break;
  }
  if (in.sub == 1) base = 0 - base;
  for_each_lane(m, [&](int l) {
    const u64 a = w.value(in.a, l);
    w.set_value(in.dst, l, in.sub == 0 && a == ~u64{0} ? 0 : a + base);
  });
  w.shadow(in, m);
}
void decode_cvta(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kMove;
  in.sub = mods.take("to") ? 1 : 0;
  const std::string_view space = mods.take_any();
  in.space = space == "shared" || space.starts_with("shared::") ? ptx::Space::kShared
             : space == "local"                                 ? ptx::Space::kLocal
             : space == "param" || space == "param::entry"      ? ptx::Space::kParam
             : space == "const"                                 ? ptx::Space::kConst
                                                                : ptx::Space::kGlobal;
  if (in.space == ptx::Space::kGlobal && space != "global") dec.fail("unknown space");
  const Type t = mods.take_type();
  if (in.space == ptx::Space::kParam && !dec.in_entry()) in.space = ptx::Space::kLocal;
  decode_operands(dec, st, in, t, {t});
  in.fn = exec_cvta;
}

// 9.7.9.19 isspacep.
void exec_isspacep(Warp& w, const Instr& in, u32 m) {
  const GlobalMemory& memory = w.cta().launch.machine.memory;
  const auto inside = [](u64 a, u64 window) { return a - window < GlobalMemory::kWindow; };
  u32 out = 0;
  for_each_lane(m, [&](int l) {
    const u64 a = w.value(in.a, l);
    const bool anywhere = inside(a, memory.shared_window()),
               local = inside(a, memory.local_window());
    const bool peer = anywhere && (a - memory.shared_window()) / Cta::kWindowBytes != w.cta().rank;
    const bool r = in.space == ptx::Space::kShared  ? anywhere && (in.in_cluster || !peer)
                   : in.space == ptx::Space::kLocal ? local
                   : in.space == ptx::Space::kGlobal
                       ? !anywhere && !local
                       : memory.find(a) != nullptr && memory.find(a)->read_only;
    out |= (r ? 1u : 0u) << l;
  });
  write_pred(w, in.dst, m, out);
  w.shadow(in, m);
}
void decode_isspacep(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kMove;
  const std::string_view space = mods.take_any();
  in.in_cluster = space == "shared::cluster";
  in.space = space.starts_with("shared")  ? ptx::Space::kShared
             : space == "local"           ? ptx::Space::kLocal
             : space == "global"          ? ptx::Space::kGlobal
             : space.starts_with("param") ? ptx::Space::kParam
                                          : ptx::Space::kConst;
  decode_operands(dec, st, in, Type::kPred, {Type::kU64});
  in.fn = exec_isspacep;
}

}  // namespace

void register_convert(OpcodeMap& t) {
  t["cvt"] = decode_cvt_any;
  t["cvta"] = decode_cvta;
  t["isspacep"] = decode_isspacep;
}

}  // namespace vgpu::ops
