// Integer arithmetic. PTX ISA 9.0 section 9.7.1 and, for carries, 9.7.2.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "machine/ops/arithmetic.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

template <class T>
using Unsigned = std::make_unsigned_t<T>;

template <class T>
struct Wide;
template <>
struct Wide<u16> {
  using type = u32;
};
template <>
struct Wide<i16> {
  using type = i32;
};
template <>
struct Wide<u32> {
  using type = u64;
};
template <>
struct Wide<i32> {
  using type = i64;
};
template <>
struct Wide<u64> {
  using type = u128;
};
template <>
struct Wide<i64> {
  using type = i128;
};

template <class T>
T wrap_add(T a, T b) {
  return static_cast<T>(Unsigned<T>(a) + Unsigned<T>(b));
}
template <class T>
T wrap_sub(T a, T b) {
  return static_cast<T>(Unsigned<T>(a) - Unsigned<T>(b));
}
template <class T>
T mul_lo(T a, T b) {
  return static_cast<T>(u64(a) * u64(b));
}
template <class T>
T mul_hi(T a, T b) {
  using W = typename Wide<T>::type;
  return static_cast<T>((W(a) * W(b)) >> (8 * sizeof(T)));
}

struct Add {
  template <class T>
  static T apply(T a, T b) {
    return wrap_add(a, b);
  }
};
struct Sub {
  template <class T>
  static T apply(T a, T b) {
    return wrap_sub(a, b);
  }
};
struct MulLo {
  template <class T>
  static T apply(T a, T b) {
    return mul_lo(a, b);
  }
};
struct MulHi {
  template <class T>
  static T apply(T a, T b) {
    return mul_hi(a, b);
  }
};
struct Min {
  template <class T>
  static T apply(T a, T b) {
    return std::min(a, b);
  }
};
struct Max {
  template <class T>
  static T apply(T a, T b) {
    return std::max(a, b);
  }
};
// Division by zero gives an unspecified value; all ones is what devices give.
struct Div {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return static_cast<T>(-1);
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return wrap_sub(T{0}, a);
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return static_cast<T>(~T{0});  // unspecified; what an H100 gives
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
    return static_cast<T>(a % b);
  }
};
struct MadLo {
  template <class T>
  static T apply(T a, T b, T c) {
    return wrap_add(mul_lo(a, b), c);
  }
};
struct MadHi {
  template <class T>
  static T apply(T a, T b, T c) {
    return wrap_add(mul_hi(a, b), c);
  }
};
struct Sad {
  template <class T>
  static T apply(T a, T b, T c) {
    return wrap_add(c, a < b ? wrap_sub(b, a) : wrap_sub(a, b));
  }
};
struct Abs {
  template <class T>
  static T apply(T a) {
    return a < 0 ? wrap_sub(T{0}, a) : a;
  }
};
struct Neg {
  template <class T>
  static T apply(T a) {
    return wrap_sub(T{0}, a);
  }
};

template <class Op, class T>
void exec1(Warp& w, const Instr& in, u32 m) {
  unary<T, T>(w, in, m, [](T a) { return Op::template apply<T>(a); });
}
template <class Op, class T>
void exec2(Warp& w, const Instr& in, u32 m) {
  binary<T, T>(w, in, m, [](T a, T b) { return Op::template apply<T>(a, b); });
}
template <class Op, class T>
void exec3(Warp& w, const Instr& in, u32 m) {
  ternary<T, T, T>(w, in, m, [](T a, T b, T c) { return Op::template apply<T>(a, b, c); });
}
template <class T>
void exec_mul_wide(Warp& w, const Instr& in, u32 m) {
  using W = typename Wide<T>::type;
  binary<W, T>(w, in, m, [](T a, T b) { return static_cast<W>(W(a) * W(b)); });
}
template <class T>
void exec_mad_wide(Warp& w, const Instr& in, u32 m) {
  using W = typename Wide<T>::type;
  ternary<W, T, W>(w, in, m,
                   [](T a, T b, W c) { return wrap_add(static_cast<W>(W(a) * W(b)), c); });
}
template <bool kSub>
void exec_sat(Warp& w, const Instr& in, u32 m) {
  binary<i32, i32>(w, in, m, [](i32 a, i32 b) {
    const i64 r = kSub ? i64{a} - b : i64{a} + b;
    return static_cast<i32>(
        std::clamp<i64>(r, std::numeric_limits<i32>::min(), std::numeric_limits<i32>::max()));
  });
}
void exec_mad_hi_sat(Warp& w, const Instr& in, u32 m) {
  ternary<i32, i32, i32>(w, in, m, [](i32 a, i32 b, i32 c) {
    const i64 r = i64{mul_hi(a, b)} + c;
    return static_cast<i32>(
        std::clamp<i64>(r, std::numeric_limits<i32>::min(), std::numeric_limits<i32>::max()));
  });
}
template <bool kSigned>
void exec_mul24(Warp& w, const Instr& in, u32 m) {
  const bool hi = in.sub == 1;
  ternary<u32, u32, u32>(w, in, m, [hi](u32 a, u32 b, u32 c) {
    u64 product;
    if (kSigned) {
      product =
          static_cast<u64>(i64{static_cast<i32>(a << 8) >> 8} * (static_cast<i32>(b << 8) >> 8));
    } else {
      product = u64{a & 0xffffff} * (b & 0xffffff);
    }
    return static_cast<u32>(hi ? product >> 16 : product) + c;
  });
}
// Two 16-bit lanes in one register.
template <class Op, class T>
void exec_x2(Warp& w, const Instr& in, u32 m) {
  binary<u32, u32>(w, in, m, [](u32 a, u32 b) {
    const T lo = Op::template apply<T>(static_cast<T>(a), static_cast<T>(b));
    const T hi = Op::template apply<T>(static_cast<T>(a >> 16), static_cast<T>(b >> 16));
    return u32{static_cast<u16>(lo)} | u32{static_cast<u16>(hi)} << 16;
  });
}

template <class Op, template <class, class> class Exec>
ExecFn pick(Type t) {
  switch (t) {
    case Type::kU16:
      return Exec<Op, u16>::fn;
    case Type::kS16:
      return Exec<Op, i16>::fn;
    case Type::kU32:
      return Exec<Op, u32>::fn;
    case Type::kS32:
      return Exec<Op, i32>::fn;
    case Type::kU64:
      return Exec<Op, u64>::fn;
    case Type::kS64:
      return Exec<Op, i64>::fn;
    default:
      return nullptr;
  }
}
template <class Op, class T>
struct E1 {
  static void fn(Warp& w, const Instr& in, u32 m) { exec1<Op, T>(w, in, m); }
};
template <class Op, class T>
struct E2 {
  static void fn(Warp& w, const Instr& in, u32 m) { exec2<Op, T>(w, in, m); }
};
template <class Op, class T>
struct E3 {
  static void fn(Warp& w, const Instr& in, u32 m) { exec3<Op, T>(w, in, m); }
};

template <class Op>
void decode2(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const Type t = mods.take_type();
  in.cls = InstrClass::kInteger;
  in.type = t;
  decode_operands(dec, st, in, t, {t, t});
  if (t == Type::kU16x2) in.fn = exec_x2<Op, u16>;
  if (t == Type::kS16x2) in.fn = exec_x2<Op, i16>;
  if (in.fn == nullptr) in.fn = pick<Op, E2>(t);
  if (mods.take("sat") && t == Type::kS32)
    in.fn = std::is_same_v<Op, Sub> ? exec_sat<true> : exec_sat<false>;
}

template <class Op>
void decode1(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const Type t = mods.take_type();
  in.cls = InstrClass::kInteger;
  in.type = t;
  decode_operands(dec, st, in, t, {t});
  in.fn = pick<Op, E1>(t);
}

ExecFn pick_wide(Type t, bool mad) {
  switch (t) {
    case Type::kU16:
      return mad ? exec_mad_wide<u16> : exec_mul_wide<u16>;
    case Type::kS16:
      return mad ? exec_mad_wide<i16> : exec_mul_wide<i16>;
    case Type::kU32:
      return mad ? exec_mad_wide<u32> : exec_mul_wide<u32>;
    case Type::kS32:
      return mad ? exec_mad_wide<i32> : exec_mul_wide<i32>;
    default:
      return nullptr;
  }
}
Type widened(Type t) {
  switch (t) {
    case Type::kU16:
      return Type::kU32;
    case Type::kS16:
      return Type::kS32;
    case Type::kU32:
      return Type::kU64;
    default:
      return Type::kS64;
  }
}

}  // namespace

// 9.7.1.3 mul, 9.7.1.4 mad: shared with the floating-point families, which take other types.
bool decode_integer_mul(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in,
                        bool mad) {
  const int part = mods.take_one({"lo", "hi", "wide"});
  if (part < 0) return false;
  const Type t = mods.take_type();
  in.cls = InstrClass::kInteger;
  in.type = t;
  if (part == 2) {
    const Type w = widened(t);
    if (mad) {
      decode_operands(dec, st, in, w, {t, t, w});
    } else {
      decode_operands(dec, st, in, w, {t, t});
    }
    in.fn = pick_wide(t, mad);
    return true;
  }
  if (mad) {
    decode_operands(dec, st, in, t, {t, t, t});
    in.fn = part == 0 ? pick<MadLo, E3>(t) : pick<MadHi, E3>(t);
    if (mods.take("sat")) in.fn = part == 1 && t == Type::kS32 ? exec_mad_hi_sat : nullptr;
  } else {
    decode_operands(dec, st, in, t, {t, t});
    in.fn = part == 0 ? pick<MulLo, E2>(t) : pick<MulHi, E2>(t);
  }
  return true;
}
void decode_integer_add(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  decode2<Add>(dec, st, mods, in);
}
void decode_integer_sub(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  decode2<Sub>(dec, st, mods, in);
}
void decode_integer_min(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  decode2<Min>(dec, st, mods, in);
}
void decode_integer_max(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  decode2<Max>(dec, st, mods, in);
}
void decode_integer_abs(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  decode1<Abs>(dec, st, mods, in);
}
void decode_integer_neg(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  decode1<Neg>(dec, st, mods, in);
}
void decode_integer_div(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  decode2<Div>(dec, st, mods, in);
}

namespace {

void decode_rem(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  decode2<Rem>(dec, st, mods, in);
}
void decode_sad(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const Type t = mods.take_type();
  in.cls = InstrClass::kInteger;
  decode_operands(dec, st, in, t, {t, t, t});
  in.fn = pick<Sad, E3>(t);
}
void decode_mul24(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool mad = mods.name() == "mad24";
  in.sub = static_cast<u8>(mods.take_one({"lo", "hi"}));
  const Type t = mods.take_type();
  in.cls = InstrClass::kInteger;
  if (mad) {
    decode_operands(dec, st, in, t, {t, t, t});
  } else {
    decode_operands(dec, st, in, t, {t, t});
    in.c = dec.literal(0, 4);
  }
  in.fn = t == Type::kS32 ? exec_mul24<true> : t == Type::kU32 ? exec_mul24<false> : nullptr;
}

// 9.7.1.23 dp4a, 9.7.1.24 dp2a.
void exec_dp4a(Warp& w, const Instr& in, u32 m) {
  const bool sa = (in.sub & 1) != 0, sb = (in.sub & 2) != 0;
  ternary<u32, u32, u32>(w, in, m, [=](u32 a, u32 b, u32 c) {
    i64 sum = static_cast<i32>(c);
    for (int i = 0; i < 4; ++i) {
      const u8 x = static_cast<u8>(a >> (8 * i)), y = static_cast<u8>(b >> (8 * i));
      sum += (sa ? i64{static_cast<i8>(x)} : i64{x}) * (sb ? i64{static_cast<i8>(y)} : i64{y});
    }
    return static_cast<u32>(sum);
  });
}
void exec_dp2a(Warp& w, const Instr& in, u32 m) {
  const bool sa = (in.sub & 1) != 0, sb = (in.sub & 2) != 0;
  const int first = in.sub2 * 2;
  ternary<u32, u32, u32>(w, in, m, [=](u32 a, u32 b, u32 c) {
    i64 sum = static_cast<i32>(c);
    for (int i = 0; i < 2; ++i) {
      const u16 x = static_cast<u16>(a >> (16 * i));
      const u8 y = static_cast<u8>(b >> (8 * (first + i)));
      sum += (sa ? i64{static_cast<i16>(x)} : i64{x}) * (sb ? i64{static_cast<i8>(y)} : i64{y});
    }
    return static_cast<u32>(sum);
  });
}
void decode_dp(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool four = mods.name() == "dp4a";
  if (!four) in.sub2 = static_cast<u8>(mods.take_one({"lo", "hi"}));
  const Type ta = mods.take_type(), tb = mods.take_type();
  in.sub = static_cast<u8>((ta == Type::kS32 ? 1 : 0) | (tb == Type::kS32 ? 2 : 0));
  in.cls = InstrClass::kInteger;
  decode_operands(dec, st, in, Type::kB32, {Type::kB32, Type::kB32, Type::kB32});
  in.fn = four ? exec_dp4a : exec_dp2a;
}

// 9.7.2: the condition code register is one predicate per lane, shared by the whole kernel.
template <class T, int kOp>
void exec_carry(Warp& w, const Instr& in, u32 m) {
  using U = Unsigned<T>;
  const bool carry_in = in.sub != 0, carry_out = in.flag;
  const Operand& cc = in.d;
  for_each_lane(m, [&](int l) {
    const U a = w.lanes<U>(in.a)[l], b = w.lanes<U>(in.b)[l];
    u128 x = a, y = b;
    if (kOp >= 2) {  // mad lo / hi
      const u128 c = w.lanes<U>(in.c)[l];
      const T lo = mul_lo<T>(static_cast<T>(a), static_cast<T>(b));
      const T hi = mul_hi<T>(static_cast<T>(a), static_cast<T>(b));
      x = static_cast<U>(kOp == 2 ? lo : hi);
      y = c;
    }
    const bool in_flag = carry_in && ((w.pred(cc) >> l) & 1) != 0;
    u128 r;
    bool out;
    if (kOp == 1) {
      r = x - y - (in_flag ? 1 : 0);
      out = x < y + (in_flag ? 1 : 0);  // borrow
    } else {
      r = x + y + (in_flag ? 1 : 0);
      out = (r >> (8 * sizeof(T))) != 0;
    }
    w.lanes<U>(in.dst)[l] = static_cast<U>(r);
    if (carry_out) write_pred(w, cc, 1u << l, out ? kAllLanes : 0);
  });
  u32 undefined = (w.undef(in.a) | w.undef(in.b) | w.undef(in.c)) & m;
  if (carry_in) undefined |= w.undef(cc) & m;
  w.set_defined(in.dst, m & ~undefined);
  w.set_undefined(in.dst, undefined);
  if (carry_out) {
    w.set_defined(cc, m & ~undefined);
    w.set_undefined(cc, undefined);
  }
}
template <int kOp>
ExecFn pick_carry(Type t) {
  switch (t) {
    case Type::kU32:
      return exec_carry<u32, kOp>;
    case Type::kS32:
      return exec_carry<i32, kOp>;
    case Type::kU64:
      return exec_carry<u64, kOp>;
    case Type::kS64:
      return exec_carry<i64, kOp>;
    default:
      return nullptr;
  }
}
void decode_carry(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const std::string_view name = mods.name();
  in.flag = mods.take("cc");
  in.sub = name == "addc" || name == "subc" || name == "madc" ? 1 : 0;
  in.cls = InstrClass::kInteger;
  const bool mad = name == "mad" || name == "madc";
  const int part = mad ? mods.take_one({"lo", "hi"}) : -1;
  const Type t = mods.take_type();
  if (mad) {
    decode_operands(dec, st, in, t, {t, t, t});
  } else {
    decode_operands(dec, st, in, t, {t, t});
  }
  in.d = dec.carry_flag();
  in.shadow = ShadowRule::kSelf;
  if (mad) {
    in.fn = part == 0 ? pick_carry<2>(t) : pick_carry<3>(t);
  } else {
    in.fn = name == "sub" || name == "subc" ? pick_carry<1>(t) : pick_carry<0>(t);
  }
}

}  // namespace

bool decode_carry_form(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  if (!mods.has("cc")) return false;
  decode_carry(dec, st, mods, in);
  return true;
}

void register_integer(OpcodeMap& t) {
  t["rem"] = decode_rem;
  t["sad"] = decode_sad;
  t["mul24"] = t["mad24"] = decode_mul24;
  t["dp4a"] = t["dp2a"] = decode_dp;
  t["addc"] = t["subc"] = t["madc"] = decode_carry;
}

}  // namespace vgpu::ops
