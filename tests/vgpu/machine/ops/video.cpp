// Video instructions. PTX ISA 9.0 sections 9.7.18.1 (scalar) and 9.7.18.2 (SIMD).
#include <algorithm>

#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

enum : u8 { kAdd, kSub, kAbsdiff, kMin, kMax, kShl, kShr, kMad, kSet, kAvrg };

// Selector codes: 0 the whole register, 1..4 bytes, 5..6 halves.
u8 take_selector(std::string& name) {
  constexpr std::string_view kNames[] = {".b0", ".b1", ".b2", ".b3", ".h0", ".h1"};
  for (u8 i = 0; i < 6; ++i) {
    if (name.size() > 3 && std::string_view(name).ends_with(kNames[i])) {
      name.resize(name.size() - 3);
      return static_cast<u8>(i + 1);
    }
  }
  return 0;
}
i64 select(u32 v, u8 selector, bool is_signed) {
  if (selector == 0) return is_signed ? i64{static_cast<i32>(v)} : i64{v};
  const int width = selector <= 4 ? 8 : 16;
  const u32 part = v >> (width * (selector <= 4 ? selector - 1 : selector - 5));
  const u32 raw = part & ((1u << width) - 1);
  return is_signed ? i64{static_cast<i32>(raw << (32 - width)) >> (32 - width)} : i64{raw};
}
i64 clamp_to(i64 v, bool is_signed, int width) {
  const i64 low = is_signed ? -(i64{1} << (width - 1)) : 0;
  const i64 high = is_signed ? (i64{1} << (width - 1)) - 1 : (i64{1} << width) - 1;
  return std::clamp(v, low, high);
}
i64 combine(u8 op, i64 a, i64 b) {
  switch (op) {
    case kAdd:
      return a + b;
    case kSub:
      return a - b;
    case kAbsdiff:
      return a < b ? b - a : a - b;
    case kMin:
      return std::min(a, b);
    default:
      return std::max(a, b);
  }
}
bool holds(Compare c, i64 a, i64 b) {
  switch (c) {
    case Compare::kEq:
      return a == b;
    case Compare::kNe:
      return a != b;
    case Compare::kLt:
      return a < b;
    case Compare::kLe:
      return a <= b;
    case Compare::kGt:
      return a > b;
    default:
      return a >= b;
  }
}

// imm: bits 0-7 selectors of a, 8-15 of b, 16-23 of d, 24-31 second operation + 1.
struct Scalar {
  u8 sel_a, sel_b, sel_d, second;
};
Scalar unpack(i64 imm) {
  return {static_cast<u8>(imm), static_cast<u8>(imm >> 8), static_cast<u8>(imm >> 16),
          static_cast<u8>(imm >> 24)};
}

void exec_scalar(Warp& w, const Instr& in, u32 m) {
  const Scalar s = unpack(in.imm);
  const bool sa = (in.sub2 & 1) != 0, sb = (in.sub2 & 2) != 0, sd = (in.sub2 & 4) != 0;
  ternary<u32, u32, u32>(w, in, m, [&](u32 ra, u32 rb, u32 rc) {
    const i64 a = select(ra, s.sel_a, sa), b = select(rb, s.sel_b, sb);
    i64 r;
    switch (in.sub) {
      case kShl:
      case kShr: {
        const i64 n = in.flag ? b & 31 : std::min<i64>(b, 32);
        r = in.sub == kShl ? a << n : a >> n;
        break;
      }
      case kMad: {
        const i64 c = sd ? i64{static_cast<i32>(rc)} : i64{rc};
        r = (a * b + c + (in.flag ? 1 : 0)) >> in.vec;
        if (in.sat) r = clamp_to(r, sd, 32);
        return static_cast<u32>(r);
      }
      case kSet:
        r = holds(in.cmp, a, b) ? 1 : 0;
        break;
      default:
        r = combine(in.sub, a, b);
        break;
    }
    const int width = s.sel_d == 0 ? 32 : s.sel_d <= 4 ? 8 : 16;
    if (in.sat) r = clamp_to(r, sd, width);
    if (s.sel_d != 0) {  // merge into c
      const int shift = width * (s.sel_d <= 4 ? s.sel_d - 1 : s.sel_d - 5);
      const u32 field = ((1u << width) - 1) << shift;
      return (rc & ~field) | ((static_cast<u32>(r) << shift) & field);
    }
    if (s.second != 0) {
      const i64 c = sd ? i64{static_cast<i32>(rc)} : i64{rc};
      const i64 t = sd ? i64{static_cast<i32>(static_cast<u32>(r))} : i64{static_cast<u32>(r)};
      return static_cast<u32>(s.second == 1   ? t + c
                              : s.second == 2 ? std::min(t, c)
                                              : std::max(t, c));
    }
    return static_cast<u32>(r);
  });
}

void exec_simd(Warp& w, const Instr& in, u32 m) {
  const int width = in.vec == 2 ? 16 : 8;
  const bool sa = (in.sub2 & 1) != 0, sb = (in.sub2 & 2) != 0, sd = (in.sub2 & 4) != 0;
  const u8 base = width == 8 ? 1 : 5;
  const bool add = in.flag;
  const u32 lanes_mask = static_cast<u32>(in.imm);
  ternary<u32, u32, u32>(w, in, m, [&](u32 ra, u32 rb, u32 rc) {
    u32 out = rc;
    i64 sum = 0;
    for (u8 i = 0; i < in.vec; ++i) {
      if (((lanes_mask >> i) & 1) == 0) continue;
      const u8 sel = static_cast<u8>(base + i);
      const i64 a = select(ra, sel, sa), b = select(rb, sel, sb);
      i64 r = in.sub == kSet    ? (holds(in.cmp, a, b) ? 1 : 0)
              : in.sub == kAvrg ? (a + b + (a + b >= 0 ? 1 : 0)) >> 1
                                : combine(in.sub, a, b);
      if (in.sat) r = clamp_to(r, sd, width);
      if (add) {
        sum += r;
        continue;
      }
      const u32 field = ((1u << width) - 1) << (width * i);
      out = (out & ~field) | ((static_cast<u32>(r) << (width * i)) & field);
    }
    return add ? static_cast<u32>(static_cast<i64>(rc) + sum) : out;
  });
}

constexpr std::pair<std::string_view, u8> kScalarNames[] = {
    {"vadd", kAdd}, {"vsub", kSub}, {"vabsdiff", kAbsdiff}, {"vmin", kMin}, {"vmax", kMax},
    {"vshl", kShl}, {"vshr", kShr}, {"vmad", kMad},         {"vset", kSet}};

bool is_signed(Type t) { return t == Type::kS32; }

void decode_scalar(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  for (const auto& [name, op] : kScalarNames)
    if (name == mods.name()) in.sub = op;
  in.cls = InstrClass::kInteger;
  Type td = Type::kU32;
  if (in.sub != kSet) td = mods.take_type();
  const Type ta = mods.take_type(), tb = mods.take_type();
  in.sub2 =
      static_cast<u8>((is_signed(ta) ? 1 : 0) | (is_signed(tb) ? 2 : 0) | (is_signed(td) ? 4 : 0));
  if (in.sub == kSet)
    in.cmp = static_cast<Compare>(mods.take_one({"eq", "ne", "lt", "le", "gt", "ge"}));
  in.sat = mods.take("sat");
  if (in.sub == kShl || in.sub == kShr) in.flag = mods.take_one({"clamp", "wrap"}) == 1;
  in.vec = 0;
  if (in.sub == kMad) {
    in.flag = mods.take("po");
    in.vec = mods.take("shr7") ? 7 : mods.take("shr15") ? 15 : 0;
  }
  const u8 second = static_cast<u8>(mods.take_one({"add", "min", "max"}) + 1);
  ptx::Statement plain = st;
  u8 sel[3] = {0, 0, 0};
  for (size_t i = 0; i < 3 && i < plain.operands.size(); ++i) {
    ptx::Operand& op = plain.operands[i];
    if (op.kind != ptx::Operand::Kind::kName) continue;
    sel[i] = take_selector(op.name);
    op = dec.resolve(op);
  }
  if (plain.operands.size() == 4) {
    decode_operands(dec, plain, in, Type::kB32, {Type::kB32, Type::kB32, Type::kB32});
  } else {
    decode_operands(dec, plain, in, Type::kB32, {Type::kB32, Type::kB32});
    in.c = dec.literal(0, 4);
  }
  in.imm = sel[1] | i64{sel[2]} << 8 | i64{sel[0]} << 16 | i64{second} << 24;
  in.fn = exec_scalar;
}

void decode_simd(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const std::string_view name = mods.name();
  in.vec = name.back() == '2' ? 2 : 4;
  const std::string_view base = name.substr(0, name.size() - 1);
  for (const auto& [n, op] : kScalarNames)
    if (n == base) in.sub = op;
  if (base == "vavrg") in.sub = kAvrg;
  in.cls = InstrClass::kInteger;
  Type td = Type::kU32;
  if (in.sub != kSet) td = mods.take_type();
  const Type ta = mods.take_type(), tb = mods.take_type();
  in.sub2 =
      static_cast<u8>((is_signed(ta) ? 1 : 0) | (is_signed(tb) ? 2 : 0) | (is_signed(td) ? 4 : 0));
  if (in.sub == kSet)
    in.cmp = static_cast<Compare>(mods.take_one({"eq", "ne", "lt", "le", "gt", "ge"}));
  in.sat = mods.take("sat");
  in.flag = mods.take("add");
  if (st.operands.size() != 4) dec.fail("four operands expected");
  for (const ptx::Operand& op : st.operands) {
    if (op.kind == ptx::Operand::Kind::kName)
      dec.fail("lane selectors and masks are not supported");
  }
  decode_operands(dec, st, in, Type::kB32, {Type::kB32, Type::kB32, Type::kB32});
  in.imm = (1 << in.vec) - 1;
  in.fn = exec_simd;
}

}  // namespace

void register_video(OpcodeMap& t) {
  for (const auto& [name, op] : kScalarNames) t[name] = decode_scalar;
  for (std::string_view name : {"vadd2", "vsub2", "vavrg2", "vabsdiff2", "vmin2", "vmax2", "vset2",
                                "vadd4", "vsub4", "vavrg4", "vabsdiff4", "vmin4", "vmax4", "vset4"})
    t[name] = decode_simd;
}

}  // namespace vgpu::ops
