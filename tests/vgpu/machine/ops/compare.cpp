// Comparison and selection. PTX ISA 9.0 sections 9.7.6 and 9.7.7.
#include <cmath>
#include <type_traits>

#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

int take_compare(Modifiers& mods) {
  return mods.take_one({"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu",
                        "ltu", "leu", "gtu", "geu", "num", "nan"});
}

template <class T>
bool compare(Compare c, T a, T b) {
  bool nan = false;
  if constexpr (std::is_floating_point_v<T>) nan = std::isunordered(a, b);
  switch (c) {
    case Compare::kEq:
      return a == b;
    case Compare::kNe:
      return !nan && a != b;
    case Compare::kLt:
    case Compare::kLo:
      return a < b;
    case Compare::kLe:
    case Compare::kLs:
      return a <= b;
    case Compare::kGt:
    case Compare::kHi:
      return a > b;
    case Compare::kGe:
    case Compare::kHs:
      return a >= b;
    case Compare::kEqu:
      return nan || a == b;
    case Compare::kNeu:
      return nan || a != b;
    case Compare::kLtu:
      return nan || a < b;
    case Compare::kLeu:
      return nan || a <= b;
    case Compare::kGtu:
      return nan || a > b;
    case Compare::kGeu:
      return nan || a >= b;
    case Compare::kNum:
      return !nan;
    case Compare::kNan:
      return nan;
  }
  return false;
}

template <class T, Compare kC>
u32 compare_all(const T* a, const T* b) {
  u32 out = 0;
  u8 r[kLanes];
  for (int l = 0; l < kLanes; ++l) r[l] = compare<T>(kC, a[l], b[l]) ? 1 : 0;
  for (int l = 0; l < kLanes; ++l) out |= u32{r[l]} << l;
  return out;
}
template <class T>
u32 compare_mask(Compare c, const T* a, const T* b) {
  switch (c) {
    case Compare::kEq:
      return compare_all<T, Compare::kEq>(a, b);
    case Compare::kNe:
      return compare_all<T, Compare::kNe>(a, b);
    case Compare::kLt:
    case Compare::kLo:
      return compare_all<T, Compare::kLt>(a, b);
    case Compare::kLe:
    case Compare::kLs:
      return compare_all<T, Compare::kLe>(a, b);
    case Compare::kGt:
    case Compare::kHi:
      return compare_all<T, Compare::kGt>(a, b);
    case Compare::kGe:
    case Compare::kHs:
      return compare_all<T, Compare::kGe>(a, b);
    default: {
      u32 out = 0;
      for (int l = 0; l < kLanes; ++l) out |= (compare<T>(c, a[l], b[l]) ? 1u : 0u) << l;
      return out;
    }
  }
}

// The values of an operand as T; 16-bit floats become f32, f32 flushes when asked.
template <class T>
const T* load(Warp& w, const Operand& o, const Instr& in, T (&buffer)[kLanes]) {
  if constexpr (std::is_same_v<T, float>) {
    if (in.type == Type::kF16 || in.type == Type::kBf16) {
      const u16* h = w.lanes<u16>(o);
      for (int l = 0; l < kLanes; ++l) {
        buffer[l] = in.type == Type::kF16 ? half_to_float(h[l]) : bf16_to_float(h[l]);
        if (in.ftz && in.type == Type::kF16 && (h[l] & 0x7c00) == 0) buffer[l] *= 0.0f;
      }
      return buffer;
    }
    if (in.ftz) {
      const float* f = w.lanes<float>(o);
      for (int l = 0; l < kLanes; ++l) buffer[l] = flush(f[l]);
      return buffer;
    }
  }
  return w.lanes<T>(o);
}

u32 combine(Warp& w, const Instr& in, u32 r) {
  if (in.bool_op == BoolOp::kNone) return r;
  const u32 c = read_pred(w, in.c);
  switch (in.bool_op) {
    case BoolOp::kAnd:
      return r & c;
    case BoolOp::kOr:
      return r | c;
    default:
      return r ^ c;
  }
}

// setp d[|q], a, b[, c]: q has the complement of the comparison.
template <class T>
void exec_setp(Warp& w, const Instr& in, u32 m) {
  T buffer_a[kLanes], buffer_b[kLanes];
  const T* a = load<T>(w, in.a, in, buffer_a);
  const T* b = load<T>(w, in.b, in, buffer_b);
  const u32 r = compare_mask<T>(in.cmp, a, b);
  const u32 p = combine(w, in, r), q = combine(w, in, ~r);
  // The sources may be the destinations: shadow first needs only their undefined bits.
  u32 undefined = (w.undef(in.a) | w.undef(in.b) | (in.c.valid ? w.undef(in.c) : 0)) & m;
  if (undefined != 0 && in.bool_op != BoolOp::kNone) {
    // A defined predicate operand can decide alone.
    const u32 c = read_pred(w, in.c) & ~w.undef(in.c), nc = ~read_pred(w, in.c) & ~w.undef(in.c);
    if (in.bool_op == BoolOp::kAnd) undefined &= ~nc;
    if (in.bool_op == BoolOp::kOr) undefined &= ~c;
  }
  write_pred(w, in.dst, m, p);
  w.set_defined(in.dst, m & ~undefined);
  w.set_undefined(in.dst, undefined);
  if (in.dst2.valid) {
    write_pred(w, in.dst2, m, q);
    w.set_defined(in.dst2, m & ~undefined);
    w.set_undefined(in.dst2, undefined);
  }
}

template <class T, class D>
void exec_set(Warp& w, const Instr& in, u32 m) {
  T buffer_a[kLanes], buffer_b[kLanes];
  const T* a = load<T>(w, in.a, in, buffer_a);
  const T* b = load<T>(w, in.b, in, buffer_b);
  const u32 r = combine(w, in, compare_mask<T>(in.cmp, a, b));
  const D yes = static_cast<D>(in.imm);
  for_lanes(w, m, w.lanes<D>(in.dst), [=](int l) { return ((r >> l) & 1) != 0 ? yes : D{0}; });
  w.shadow(in, m);
}

template <class T, class = void>
struct Pick {
  static ExecFn setp() { return exec_setp<T>; }
  static ExecFn set(int bytes) { return bytes == 2 ? exec_set<T, u16> : exec_set<T, u32>; }
};

ExecFn pick(Type t, bool set, int bytes) {
#define VGPU_PICK(type) return set ? Pick<type>::set(bytes) : Pick<type>::setp()
  switch (t) {
    case Type::kB16:
    case Type::kU16:
      VGPU_PICK(u16);
    case Type::kS16:
      VGPU_PICK(i16);
    case Type::kB32:
    case Type::kU32:
      VGPU_PICK(u32);
    case Type::kS32:
      VGPU_PICK(i32);
    case Type::kB64:
    case Type::kU64:
      VGPU_PICK(u64);
    case Type::kS64:
      VGPU_PICK(i64);
    case Type::kF16:
    case Type::kBf16:
    case Type::kF32:
      VGPU_PICK(float);
    case Type::kF64:
      VGPU_PICK(double);
    default:
      return nullptr;
  }
#undef VGPU_PICK
}

// Packed 16-bit floats: two comparisons; set gives two halves, setp two predicates.
void exec_compare_x2(Warp& w, const Instr& in, u32 m) {
  const bool bf16 = in.type == Type::kBf16x2;
  const auto half = [bf16](u32 v, int i) {
    const u16 h = static_cast<u16>(v >> (16 * i));
    return bf16 ? bf16_to_float(h) : half_to_float(h);
  };
  const u32 c = in.c.valid ? read_pred(w, in.c) : 0;
  u32 p[2] = {0, 0};
  u32 out[kLanes] = {};
  for_each_lane(m, [&](int l) {
    const u32 a = w.lanes<u32>(in.a)[l], b = w.lanes<u32>(in.b)[l];
    for (int i = 0; i < 2; ++i) {
      bool r = compare<float>(in.cmp, half(a, i), half(b, i));
      const bool q = ((c >> l) & 1) != 0;
      if (in.bool_op == BoolOp::kAnd) r = r && q;
      if (in.bool_op == BoolOp::kOr) r = r || q;
      if (in.bool_op == BoolOp::kXor) r = r != q;
      p[i] |= (r ? 1u : 0u) << l;
      if (r) out[l] |= static_cast<u32>(in.imm) << (16 * i);
    }
  });
  if (in.dst.width == 0) {
    write_pred(w, in.dst, m, p[0]);
    if (in.dst2.valid) write_pred(w, in.dst2, m, p[1]);
  } else {
    for_each_lane(m, [&](int l) { w.lanes<u32>(in.dst)[l] = out[l]; });
  }
  w.shadow(in, m);
}

void decode_compare(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool set = mods.name() == "set";
  in.cls = InstrClass::kCompare;
  const int cmp = take_compare(mods);
  if (cmp < 0) dec.fail("comparison operator expected");
  in.cmp = static_cast<Compare>(cmp);
  in.bool_op = static_cast<BoolOp>(mods.take_one({"and", "or", "xor"}) + 1);
  in.ftz = mods.take("ftz");
  const Type result = set ? mods.take_type() : Type::kPred;
  const Type t = in.type = mods.take_type();
  if (!ptx::type_is_float(t) && cmp > static_cast<int>(Compare::kHs)) dec.fail("float comparison");
  require_operands(dec, st, in.bool_op == BoolOp::kNone ? 3 : 4);
  const ptx::Operand& d = st.operands[0];
  if (d.kind == ptx::Operand::Kind::kPair) {
    in.dst = dec.dest(d.elements[0], 0);
    in.dst2 = dec.dest(d.elements[1], 0);
  } else {
    in.dst = dec.dest(d, set ? ptx::type_bytes(result) : 0);
  }
  in.a = dec.source(st.operands[1], t);
  in.b = dec.source(st.operands[2], t);
  if (in.bool_op != BoolOp::kNone) in.c = dec.predicate(st.operands[3]);
  // What "true" is in a register: one in float results, all ones in integer results.
  in.imm = result == Type::kF32                               ? 0x3f800000
           : result == Type::kF16 || result == Type::kF16x2   ? 0x3c00
           : result == Type::kBf16 || result == Type::kBf16x2 ? 0x3f80
                                                              : 0xffffffff;
  if (t == Type::kF16x2 || t == Type::kBf16x2) {
    if (!ptx::type_is_float(result)) in.imm = 0xffff;
    in.fn = exec_compare_x2;
    return;
  }
  in.fn = pick(t, set, set ? in.dst.width : 0);
}

// 9.7.6.3 selp.
template <class T>
void exec_selp(Warp& w, const Instr& in, u32 m) {
  const T* a = w.lanes<T>(in.a);
  const T* b = w.lanes<T>(in.b);
  const u32 p = read_pred(w, in.c);
  T out[kLanes];
  for (int l = 0; l < kLanes; ++l) out[l] = ((p >> l) & 1) != 0 ? a[l] : b[l];
  T* d = w.lanes<T>(in.dst);
  w.shadow(in, m);  // before the write: a source may be the destination
  if (w.full(m)) {
    std::memcpy(d, out, sizeof out);
  } else {
    for_each_lane(m, [&](int l) { d[l] = out[l]; });
  }
}
void decode_selp(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const Type t = mods.take_type();
  in.cls = InstrClass::kCompare;
  in.shadow = ShadowRule::kSelect;
  decode_operands(dec, st, in, t, {t, t, Type::kPred});
  switch (ptx::type_bytes(t)) {
    case 2:
      in.fn = exec_selp<u16>;
      break;
    case 4:
      in.fn = exec_selp<u32>;
      break;
    case 8:
      in.fn = exec_selp<u64>;
      break;
    default:
      break;
  }
}

// 9.7.6.4 slct: a if c >= 0, else b.
template <class T>
void exec_slct(Warp& w, const Instr& in, u32 m) {
  const bool is_float = in.type2 == Type::kF32;
  ternary<T, T, u32>(w, in, m, [=](T a, T b, u32 c) {
    if (is_float) {
      const float f = bits<float>(c);
      return f >= 0 || f == 0 ? a : b;
    }
    return static_cast<i32>(c) >= 0 ? a : b;
  });
}
void decode_slct(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.ftz = mods.take("ftz");
  const Type t = mods.take_type();
  in.type2 = mods.take_type();
  in.cls = InstrClass::kCompare;
  decode_operands(dec, st, in, t, {t, t, in.type2});
  switch (ptx::type_bytes(t)) {
    case 2:
      in.fn = exec_slct<u16>;
      break;
    case 4:
      in.fn = exec_slct<u32>;
      break;
    case 8:
      in.fn = exec_slct<u64>;
      break;
    default:
      break;
  }
}

}  // namespace

void register_compare(OpcodeMap& t) {
  t["setp"] = t["set"] = decode_compare;
  t["selp"] = decode_selp;
  t["slct"] = decode_slct;
}

}  // namespace vgpu::ops
