// Single and double precision. PTX ISA 9.0 section 9.7.3.
#include <cfenv>
#include <cmath>

#include "machine/ops/arithmetic.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

enum : u8 { kAdd, kSub, kMul, kFma, kDiv, kMin, kMax, kSqrt, kRcp, kAbs, kNeg };

int fe_mode(Rounding r) {
  switch (r) {
    case Rounding::kZero:
      return FE_TOWARDZERO;
    case Rounding::kDown:
      return FE_DOWNWARD;
    case Rounding::kUp:
      return FE_UPWARD;
    default:
      return FE_TONEAREST;
  }
}

template <class T>
__attribute__((noinline)) T directed(u8 op, T x, T y, T z, Rounding rounding) {
  std::fesetround(fe_mode(rounding));
  volatile T a = x, b = y, c = z, r = 0;
  switch (op) {
    case kAdd:
      r = a + b;
      break;
    case kSub:
      r = a - b;
      break;
    case kMul:
      r = a * b;
      break;
    case kFma:
      r = std::fma(T{a}, T{b}, T{c});
      break;
    case kDiv:
      r = a / b;
      break;
    case kRcp:
      r = T{1} / a;
      break;
    case kSqrt:
      r = std::sqrt(T{a});
      break;
    default:
      break;
  }
  std::fesetround(FE_TONEAREST);
  return r;
}

template <class T>
T compute(u8 op, T a, T b, T c) {
  switch (op) {
    case kAdd:
      return a + b;
    case kSub:
      return a - b;
    case kMul:
      return a * b;
    case kFma:
      return std::fma(a, b, c);
    case kDiv:
      return a / b;
    case kRcp:
      return T{1} / a;
    case kSqrt:
      return std::sqrt(a);
    default:
      return a;
  }
}
template <class T>
T fix_nan(T v) {
  if constexpr (sizeof(T) == 4) return canonical(v);
  return std::isnan(v) ? bits<double>(u64{0x7ff8000000000000}) : v;
}

// Results that .ftz flushes. Of a product it is decided before it is rounded to the spacing of
// subnormals: an H100 flushes 2^-126 times (1 - 2^-24), which would round to 2^-126.
template <class T>
T flush_result(u8 op, T r, T x, T y) {
  if constexpr (sizeof(T) == 4) {
    constexpr double kLeast = 0x1p-126 - 0x1p-151;  // rounds to 2^-126 with 24 bits
    if (op == kMul && std::fabs(r) == 0x1p-126f && std::fabs(double{x} * y) < kLeast)
      return std::copysign(0.0f, r);
    return flush(r);
  }
  return r;
}

// Every modifier, one lane at a time.
template <class T>
void exec_general(Warp& w, const Instr& in, u32 m) {
  const T* a = w.lanes<T>(in.a);
  const T* b = w.lanes<T>(in.b);
  const T* c = w.lanes<T>(in.c);
  T* d = w.lanes<T>(in.dst);
  for_each_lane(m, [&](int l) {
    T x = a[l], y = b[l], z = c[l];
    if constexpr (sizeof(T) == 4) {
      if (in.ftz) {
        x = flush(x);
        y = flush(y);
        z = flush(z);
      }
    }
    T r = in.rounding == Rounding::kNearestEven ? compute<T>(in.sub, x, y, z)
                                                : directed<T>(in.sub, x, y, z, in.rounding);
    if constexpr (sizeof(T) == 4) {
      if (in.ftz) r = flush_result(in.sub, r, x, y);
      if (in.sat) r = saturate(r);
    }
    d[l] = fix_nan(r);
  });
  w.shadow(in, m);
}

template <class T, u8 kOp, bool kFtz>
void exec_fast(Warp& w, const Instr& in, u32 m) {
  const auto pre = [](T v) {
    if constexpr (kFtz) return flush(v);
    return v;
  };
  if constexpr (kOp == kFma) {
    ternary<T, T, T>(w, in, m, [pre](T a, T b, T c) {
      return fix_nan(pre(compute<T>(kOp, pre(a), pre(b), pre(c))));
    });
  } else {
    binary<T, T>(w, in, m, [pre](T a, T b) {
      const T x = pre(a), y = pre(b), r = compute<T>(kOp, x, y, T{0});
      return fix_nan(kFtz ? flush_result(kOp, r, x, y) : r);
    });
  }
}
template <u8 kOp>
ExecFn pick_fast(const Instr& in) {
  if (in.rounding != Rounding::kNearestEven || in.sat) return nullptr;
  if (in.type == Type::kF64) return exec_fast<double, kOp, false>;
  return in.ftz ? exec_fast<float, kOp, true> : exec_fast<float, kOp, false>;
}

void take_float_modifiers(Modifiers& mods, Instr& in) {
  in.rounding = take_rounding(mods);
  in.ftz = mods.take("ftz");
  in.sat = mods.take("sat");
  in.cls = in.type == Type::kF64 ? InstrClass::kDouble : InstrClass::kFloat;
}

bool is_half(const Modifiers& mods) {
  return mods.has("f16") || mods.has("f16x2") || mods.has("bf16") || mods.has("bf16x2");
}
bool is_float(const Modifiers& mods) { return mods.has("f32") || mods.has("f64"); }

// add, sub, mul, fma, mad, div.rnd, sqrt.rnd, rcp.rnd of f32 and f64.
void decode_float(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in, u8 op) {
  in.sub = op;
  in.type = mods.has("f64") ? Type::kF64 : Type::kF32;
  const Type t = mods.take_type();
  take_float_modifiers(mods, in);
  in.flops = op == kFma ? 2 : 1;
  if (op == kFma) {
    decode_operands(dec, st, in, t, {t, t, t});
  } else if (op == kRcp || op == kSqrt) {
    decode_operands(dec, st, in, t, {t});
    in.b = in.c = in.a;
  } else {
    decode_operands(dec, st, in, t, {t, t});
    in.c = in.a;
  }
  switch (op) {
    case kAdd:
      in.fn = pick_fast<kAdd>(in);
      break;
    case kSub:
      in.fn = pick_fast<kSub>(in);
      break;
    case kMul:
      in.fn = pick_fast<kMul>(in);
      break;
    case kFma:
      in.fn = pick_fast<kFma>(in);
      break;
    default:
      break;
  }
  if (in.fn == nullptr) in.fn = t == Type::kF64 ? exec_general<double> : exec_general<float>;
}

// Mixed precision, section 9.7.5: add/sub/fma with an f32 result and 16-bit operands.
void exec_mixed(Warp& w, const Instr& in, u32 m) {
  const auto load = [&](const Operand& o, int l) {
    if (o.width == 4) return w.lanes<float>(o)[l];
    const u16 h = w.lanes<u16>(o)[l];
    return in.type2 == Type::kBf16 ? bf16_to_float(h) : half_to_float(h);
  };
  for_each_lane(m, [&](int l) {
    const float a = load(in.a, l), b = load(in.b, l), c = in.c.valid ? load(in.c, l) : 0.0f;
    float r = in.rounding == Rounding::kNearestEven ? compute<float>(in.sub, a, b, c)
                                                    : directed<float>(in.sub, a, b, c, in.rounding);
    if (in.sat) r = saturate(r);
    w.lanes<float>(in.dst)[l] = canonical(r);
  });
  w.shadow(in, m);
}
bool decode_mixed(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in, u8 op) {
  if (!mods.has("f32") || !(mods.has("f16") || mods.has("bf16"))) return false;
  in.type = mods.take_type();
  in.type2 = mods.take_type();
  take_float_modifiers(mods, in);
  in.sub = op;
  in.flops = op == kFma ? 2 : 1;
  if (op == kFma) {
    decode_operands(dec, st, in, Type::kF32, {in.type2, in.type2, Type::kF32});
  } else {
    decode_operands(dec, st, in, Type::kF32, {in.type2, Type::kF32});
  }
  in.fn = exec_mixed;
  return true;
}

void decode_add(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool sub = mods.name() == "sub";
  if (decode_carry_form(dec, st, mods, in)) return;
  if (decode_mixed(dec, st, mods, in, sub ? kSub : kAdd)) return;
  if (is_half(mods)) {
    decode_half_arithmetic(dec, st, mods, in);
  } else if (is_float(mods)) {
    decode_float(dec, st, mods, in, sub ? kSub : kAdd);
  } else if (sub) {
    decode_integer_sub(dec, st, mods, in);
  } else {
    decode_integer_add(dec, st, mods, in);
  }
}
void decode_mul(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  if (is_half(mods)) {
    decode_half_arithmetic(dec, st, mods, in);
  } else if (is_float(mods)) {
    decode_float(dec, st, mods, in, kMul);
  } else if (!decode_integer_mul(dec, st, mods, in, false)) {
    dec.fail("mul without a known type");
  }
}
void decode_mad(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  if (decode_carry_form(dec, st, mods, in)) return;
  if (is_float(mods)) {
    decode_float(dec, st, mods, in, kFma);
  } else if (!decode_integer_mul(dec, st, mods, in, true)) {
    dec.fail("mad without a known type");
  }
}
void decode_fma(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  if (decode_mixed(dec, st, mods, in, kFma)) return;
  if (is_half(mods)) {
    decode_half_arithmetic(dec, st, mods, in);
  } else {
    decode_float(dec, st, mods, in, kFma);
  }
}

// 9.7.3.11 min, 9.7.3.12 max: a NaN operand is ignored unless .NaN; -0 is below +0.
template <class T>
T min_max(T a, T b, bool want_max, bool propagate_nan) {
  if (std::isnan(a) || std::isnan(b)) {
    if (propagate_nan || (std::isnan(a) && std::isnan(b))) return fix_nan(std::isnan(a) ? a : b);
    return std::isnan(a) ? b : a;
  }
  if (a == b) return std::signbit(a) == want_max ? b : a;
  return (a < b) == want_max ? b : a;
}
template <class T>
void exec_min_max(Warp& w, const Instr& in, u32 m) {
  const bool want_max = in.sub == kMax, nan = in.flag, ftz = in.ftz;
  const bool xor_sign = in.sub2 != 0;
  const bool three = in.c.valid;
  const T* a = w.lanes<T>(in.a);
  const T* b = w.lanes<T>(in.b);
  const T* c = w.lanes<T>(three ? in.c : in.a);
  T* d = w.lanes<T>(in.dst);
  for_each_lane(m, [&](int l) {
    T x = a[l], y = b[l], z = c[l];
    if constexpr (sizeof(T) == 4) {
      if (ftz) {
        x = flush(x);
        y = flush(y);
        z = flush(z);
      }
    }
    const bool sign = std::signbit(x) != std::signbit(y);
    T r = xor_sign ? min_max<T>(std::fabs(x), std::fabs(y), want_max, nan)
                   : min_max<T>(x, y, want_max, nan);
    if (three) r = min_max<T>(r, z, want_max, nan);
    if (xor_sign && !std::isnan(r)) r = sign ? -std::fabs(r) : std::fabs(r);
    d[l] = r;
  });
  w.shadow(in, m);
}
void decode_min_max(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool want_max = mods.name() == "max";
  if (is_half(mods)) {
    decode_half_arithmetic(dec, st, mods, in);
    return;
  }
  if (!is_float(mods)) {
    if (want_max) {
      decode_integer_max(dec, st, mods, in);
    } else {
      decode_integer_min(dec, st, mods, in);
    }
    if (mods.take("relu")) dec.fail("min/max.relu of integers is not supported");
    return;
  }
  in.sub = want_max ? kMax : kMin;
  in.ftz = mods.take("ftz");
  in.flag = mods.take("NaN");
  in.sub2 = mods.take("xorsign") ? 1 : 0;
  if (in.sub2 != 0 && !mods.take("abs")) dec.fail("xorsign without abs");
  in.type = mods.take_type();
  in.cls = in.type == Type::kF64 ? InstrClass::kDouble : InstrClass::kFloat;
  if (st.operands.size() == 4) {
    decode_operands(dec, st, in, in.type, {in.type, in.type, in.type});
  } else {
    decode_operands(dec, st, in, in.type, {in.type, in.type});
  }
  in.fn = in.type == Type::kF64 ? exec_min_max<double> : exec_min_max<float>;
}

// 9.7.3.9 abs, 9.7.3.10 neg: sign bit operations; f32 flushes when asked.
template <class U, U kSign, bool kNegate>
void exec_sign(Warp& w, const Instr& in, u32 m) {
  const bool ftz = in.ftz;
  unary<U, U>(w, in, m, [ftz](U a) {
    U r = kNegate ? a ^ kSign : a & ~kSign;
    if constexpr (sizeof(U) == 4) {
      if (ftz) r = bits<u32>(flush(bits<float>(r)));
      if ((r & 0x7fffffffu) > 0x7f800000u) r = kCanonicalNan;
    }
    return r;
  });
}
void decode_sign(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool neg = mods.name() == "neg";
  if (is_half(mods)) {
    decode_half_arithmetic(dec, st, mods, in);
    return;
  }
  if (!is_float(mods)) {
    if (neg) {
      decode_integer_neg(dec, st, mods, in);
    } else {
      decode_integer_abs(dec, st, mods, in);
    }
    return;
  }
  in.ftz = mods.take("ftz");
  const Type t = mods.take_type();
  in.cls = t == Type::kF64 ? InstrClass::kDouble : InstrClass::kFloat;
  decode_operands(dec, st, in, t, {t});
  if (t == Type::kF64) {
    in.fn = neg ? exec_sign<u64, u64{1} << 63, true> : exec_sign<u64, u64{1} << 63, false>;
  } else {
    in.fn = neg ? exec_sign<u32, 0x80000000u, true> : exec_sign<u32, 0x80000000u, false>;
  }
}

// 9.7.3.5 copysign: the sign of a on b.
template <class U>
void exec_copysign(Warp& w, const Instr& in, u32 m) {
  binary<U, U>(w, in, m, [](U a, U b) {
    constexpr U kSign = U{1} << (8 * sizeof(U) - 1);
    return static_cast<U>((a & kSign) | (b & ~kSign));
  });
}
void decode_copysign(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const Type t = mods.take_type();
  in.cls = t == Type::kF64 ? InstrClass::kDouble : InstrClass::kFloat;
  decode_operands(dec, st, in, t, {t, t});
  in.fn = t == Type::kF64 ? exec_copysign<u64> : exec_copysign<u32>;
}

// 9.7.3.4 testp.
template <class T>
void exec_testp(Warp& w, const Instr& in, u32 m) {
  const T* a = w.lanes<T>(in.a);
  u32 out = 0;
  for_each_lane(m, [&](int l) {
    const int c = std::fpclassify(a[l]);
    bool r = false;
    switch (in.sub) {
      case 0:
        r = c != FP_NAN && c != FP_INFINITE;
        break;
      case 1:
        r = c == FP_INFINITE;
        break;
      case 2:
        r = c != FP_NAN;
        break;
      case 3:
        r = c == FP_NAN;
        break;
      case 4:
        r = c == FP_NORMAL;
        break;
      default:
        r = c == FP_SUBNORMAL;
        break;
    }
    out |= (r ? 1u : 0u) << l;
  });
  write_pred(w, in.dst, m, out);
  w.shadow(in, m);
}
void decode_testp(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const int kind =
      mods.take_one({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  if (kind < 0) return;
  in.sub = static_cast<u8>(kind);
  const Type t = mods.take_type();
  in.cls = InstrClass::kCompare;
  decode_operands(dec, st, in, Type::kPred, {t});
  in.fn = t == Type::kF64 ? exec_testp<double> : exec_testp<float>;
}

}  // namespace

// div, sqrt and rcp with a rounding mode; special.cpp has the approximations.
void decode_rounded(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const u8 op = mods.name() == "div" ? kDiv : mods.name() == "sqrt" ? kSqrt : kRcp;
  decode_float(dec, st, mods, in, op);
}

void register_float(OpcodeMap& t) {
  t["add"] = t["sub"] = decode_add;
  t["mul"] = decode_mul;
  t["mad"] = decode_mad;
  t["fma"] = decode_fma;
  t["min"] = t["max"] = decode_min_max;
  t["abs"] = t["neg"] = decode_sign;
  t["copysign"] = decode_copysign;
  t["testp"] = decode_testp;
}

}  // namespace vgpu::ops
