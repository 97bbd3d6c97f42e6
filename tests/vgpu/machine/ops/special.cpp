// Division, roots and transcendental approximations. PTX ISA 9.0 sections 9.7.3.7 (div),
// 9.7.3.13 to 9.7.3.23, 9.7.4.10 (tanh, ex2 of halves).
//
// The ISA bounds the error of .approx forms; the results here are rounded once from double, which
// is within every bound. They are not the bits of any one device.
#include <algorithm>
#include <cmath>

#include "machine/ops/ops.h"

namespace vgpu::ops {

void decode_rounded(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in);
void decode_integer_div(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in);

namespace {

using ptx::Type;

enum : u8 { kRcp, kSqrt, kRsqrt, kSin, kCos, kLg2, kEx2, kTanh };

double evaluate(u8 op, double v) {
  switch (op) {
    case kRcp:
      return 1.0 / v;
    case kSqrt:
      return std::sqrt(v);
    case kRsqrt:
      return 1.0 / std::sqrt(v);
    case kSin:
      return std::sin(v);
    case kCos:
      return std::cos(v);
    case kLg2:
      return std::log2(v);
    case kEx2:
      return std::exp2(v);
    default:
      return std::tanh(v);
  }
}

// Subnormal inputs count as zero in .ftz forms, and subnormal results become zero.
template <u8 kOp>
void exec_f32(Warp& w, const Instr& in, u32 m) {
  const bool ftz = in.ftz;
  unary<float, float>(w, in, m, [ftz](float a) {
    if (ftz) a = flush(a);
    float r;
    if constexpr (kOp == kEx2) {
      r = static_cast<float>(std::exp2(static_cast<double>(a)));
    } else {
      r = static_cast<float>(evaluate(kOp, a));
    }
    return canonical(ftz ? flush(r) : r);
  });
}
// rcp.approx.ftz.f64 and rsqrt.approx.ftz.f64 keep the upper word only.
template <u8 kOp>
void exec_f64(Warp& w, const Instr& in, u32 m) {
  unary<double, double>(w, in, m, [](double a) {
    const u64 raw = bits<u64>(a);
    const bool subnormal = (raw & 0x7ff0000000000000ull) == 0;
    const double x = subnormal ? bits<double>(raw & (u64{1} << 63)) : bits<double>(raw >> 32 << 32);
    const double r = evaluate(kOp, x);
    const u64 out = bits<u64>(r);
    if ((out & 0x7ff0000000000000ull) == 0) return bits<double>(out & (u64{1} << 63));
    return bits<double>(out >> 32 << 32);
  });
}
void exec_half(Warp& w, const Instr& in, u32 m) {
  const bool bf16 = in.type == Type::kBf16 || in.type == Type::kBf16x2;
  const int parts = in.dst.width / 2;
  for_each_lane(m, [&](int l) {
    const u32 a = static_cast<u32>(w.value(in.a, l));
    u32 out = 0;
    for (int i = 0; i < parts; ++i) {
      const u16 h = static_cast<u16>(a >> (16 * i));
      float x = bf16 ? bf16_to_float(h) : half_to_float(h);
      if (bf16 && in.ftz) x = flush(x);
      const MiniFloat& f = bf16 ? kBf16 : kF16;
      out |= encode(f, evaluate(in.sub, x), Rounding::kNearestEven, false) << (16 * i);
    }
    w.set_value(in.dst, l, out);
  });
  w.shadow(in, m);
}

// div.approx and div.full: a * (1/b); for 2^126 < |b| < 2^128 the approximation gives 0.
void exec_div_approx(Warp& w, const Instr& in, u32 m) {
  const bool ftz = in.ftz, full = in.flag;
  binary<float, float>(w, in, m, [=](float a, float b) {
    if (ftz) {
      a = flush(a);
      b = flush(b);
    }
    const float magnitude = std::fabs(b);
    if (!full && magnitude > 0x1p126f && std::isfinite(b))
      return std::isinf(a) || std::isnan(a) ? bits<float>(kCanonicalNan)
                                            : std::copysign(0.0f, a * b);
    const float r = static_cast<float>(static_cast<double>(a) / b);
    return canonical(ftz ? flush(r) : r);
  });
}

template <u8 kOp>
ExecFn pick_unary(Type t) {
  if (t == Type::kF64) return kOp == kRcp || kOp == kRsqrt ? exec_f64<kOp> : nullptr;
  if (t == Type::kF32) return exec_f32<kOp>;
  return kOp == kEx2 || kOp == kTanh ? exec_half : nullptr;
}

void decode_special(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const std::string_view name = mods.name();
  if ((name == "rcp" || name == "sqrt") && !mods.has("approx")) {
    decode_rounded(dec, st, mods, in);
    return;
  }
  mods.take("approx");
  in.ftz = mods.take("ftz");
  const Type t = in.type = mods.take_type();
  in.cls = InstrClass::kSpecial;
  decode_operands(dec, st, in, t, {t});
  struct Row {
    std::string_view name;
    u8 op;
    ExecFn (*pick)(Type);
  };
  constexpr Row kRows[] = {
      {"rcp", kRcp, pick_unary<kRcp>},       {"sqrt", kSqrt, pick_unary<kSqrt>},
      {"rsqrt", kRsqrt, pick_unary<kRsqrt>}, {"sin", kSin, pick_unary<kSin>},
      {"cos", kCos, pick_unary<kCos>},       {"lg2", kLg2, pick_unary<kLg2>},
      {"ex2", kEx2, pick_unary<kEx2>},       {"tanh", kTanh, pick_unary<kTanh>},
  };
  for (const Row& row : kRows) {
    if (row.name != name) continue;
    in.sub = row.op;
    in.fn = row.pick(t);
  }
}

void decode_div(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const int approx = mods.take_one({"approx", "full"});
  if (approx < 0) {
    if (mods.has("f32") || mods.has("f64")) {
      decode_rounded(dec, st, mods, in);
    } else {
      decode_integer_div(dec, st, mods, in);
    }
    return;
  }
  in.flag = approx == 1;
  in.ftz = mods.take("ftz");
  const Type t = in.type = mods.take_type();
  in.cls = InstrClass::kSpecial;
  in.sub = kRcp;
  decode_operands(dec, st, in, t, {t, t});
  in.fn = t == Type::kF32 ? exec_div_approx : nullptr;
}

}  // namespace

void register_special(OpcodeMap& t) {
  for (std::string_view name : {"rcp", "sqrt", "rsqrt", "sin", "cos", "lg2", "ex2", "tanh"})
    t[name] = decode_special;
  t["div"] = decode_div;
}

}  // namespace vgpu::ops
