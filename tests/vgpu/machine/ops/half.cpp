// Half precision and bf16 arithmetic, scalar and packed. PTX ISA 9.0 section 9.7.4.
//
// Sums and products of 16-bit floats are exact enough in f32 that rounding twice is rounding once
// (24 >= 2 * 11 + 2); fma goes through a sum rounded to odd.
#include <cmath>

#include "machine/ops/arithmetic.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

enum : u8 { kAdd, kSub, kMul, kFma, kMin, kMax, kNeg, kAbs };

struct Half {
  static float load(u16 h, bool ftz) {
    if (ftz && (h & 0x7c00) == 0) h &= 0x8000;
    return half_to_float(h);
  }
  static u16 store(float f) { return float_to_half(f); }
  static u16 fma(u16 a, u16 b, u16 c) { return fma_half(a, b, c); }
  static u16 flush_result(u16 h) { return (h & 0x7c00) == 0 ? static_cast<u16>(h & 0x8000) : h; }
  static constexpr u16 kNan = 0x7fff;
  static constexpr u16 kInfinity = 0x7c00;
};
struct Bf16 {
  static float load(u16 h, bool) { return bf16_to_float(h); }
  static u16 store(float f) { return float_to_bf16(f); }
  static u16 fma(u16 a, u16 b, u16 c) { return fma_bf16(a, b, c); }
  static u16 flush_result(u16 h) { return h; }
  static constexpr u16 kNan = 0x7fff;
  static constexpr u16 kInfinity = 0x7f80;
};

template <class F>
u16 one(const Instr& in, u16 a, u16 b, u16 c) {
  const bool ftz = in.ftz;
  const float x = F::load(a, ftz), y = F::load(b, ftz);
  u16 r = 0;
  switch (in.sub) {
    case kAdd:
      r = F::store(x + y);
      break;
    case kSub:
      r = F::store(x - y);
      break;
    case kMul:
      r = F::store(x * y);
      break;
    case kFma: {
      if (ftz) {
        a = F::flush_result(a);
        b = F::flush_result(b);
        c = F::flush_result(c);
      }
      r = F::fma(a, b, c);
      break;
    }
    case kNeg:
      if ((a & 0x7fff) > F::kInfinity) return F::kNan;
      return static_cast<u16>((ftz ? F::flush_result(a) : a) ^ 0x8000);
    case kAbs:
      if ((a & 0x7fff) > F::kInfinity) return F::kNan;
      return static_cast<u16>((ftz ? F::flush_result(a) : a) & 0x7fff);
    default: {  // min, max
      const bool want_max = in.sub == kMax;
      const bool nan_a = std::isnan(x), nan_b = std::isnan(y);
      const bool sign = ((a ^ b) & 0x8000) != 0;
      if ((nan_a || nan_b) && (in.flag || (nan_a && nan_b))) return F::kNan;
      float p = x, q = y;
      u16 ha = ftz ? F::flush_result(a) : a, hb = ftz ? F::flush_result(b) : b;
      if (in.sub2 != 0) {
        p = std::fabs(p);
        q = std::fabs(q);
        ha &= 0x7fff;
        hb &= 0x7fff;
      }
      if (nan_a) {
        r = hb;
      } else if (nan_b) {
        r = ha;
      } else if (p == q) {
        r = std::signbit(p) == want_max ? hb : ha;
      } else {
        r = (p < q) == want_max ? hb : ha;
      }
      if (in.sub2 != 0) r = static_cast<u16>((r & 0x7fff) | (sign ? 0x8000 : 0));
      return r;
    }
  }
  if (ftz) r = F::flush_result(r);
  const float v = F::load(r, false);
  if (in.sat) r = F::store(saturate(v));
  if (in.relu && !std::isnan(v) && (r & 0x8000) != 0) r = 0;
  return r;
}

template <class F, bool kPacked>
void exec_half(Warp& w, const Instr& in, u32 m) {
  if constexpr (kPacked) {
    ternary<u32, u32, u32>(w, in, m, [&in](u32 a, u32 b, u32 c) {
      const u16 lo = one<F>(in, static_cast<u16>(a), static_cast<u16>(b), static_cast<u16>(c));
      const u16 hi = one<F>(in, static_cast<u16>(a >> 16), static_cast<u16>(b >> 16),
                            static_cast<u16>(c >> 16));
      return u32{hi} << 16 | lo;
    });
  } else {
    ternary<u16, u16, u16>(w, in, m, [&in](u16 a, u16 b, u16 c) { return one<F>(in, a, b, c); });
  }
}

// The two halves of a packed operation do not mix undefined bytes.
template <class F>
void exec_packed(Warp& w, const Instr& in, u32 m) {
  const u32 sources = (w.undef(in.a) | w.undef(in.b) | w.undef(in.c)) & m;
  u32 undefined[kLanes] = {};
  for_each_lane(sources, [&](int l) {
    const u32 u = w.undef_of(in.a, l) | w.undef_of(in.b, l) | w.undef_of(in.c, l);
    undefined[l] = ((u & 3) != 0 ? 3u : 0u) | ((u & 12) != 0 ? 12u : 0u);
  });
  exec_half<F, true>(w, in, m);
  for_each_lane(sources, [&](int l) { w.set_undef(in.dst, l, undefined[l]); });
}

}  // namespace

bool decode_half_arithmetic(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const std::string_view name = mods.name();
  constexpr std::string_view kNames[] = {"add", "sub", "mul", "fma", "min", "max", "neg", "abs"};
  for (u8 i = 0; i < 8; ++i)
    if (kNames[i] == name) in.sub = i;
  mods.take("rn");
  in.ftz = mods.take("ftz");
  in.sat = mods.take("sat");
  in.relu = mods.take("relu");
  in.flag = mods.take("NaN");
  in.sub2 = mods.take("xorsign") ? 1 : 0;
  if (in.sub2 != 0) mods.take("abs");
  mods.take("oob");
  const Type t = in.type = mods.take_type();
  in.cls = InstrClass::kHalf;
  const bool packed = t == Type::kF16x2 || t == Type::kBf16x2;
  const bool bf16 = t == Type::kBf16 || t == Type::kBf16x2;
  if (in.sub <= kFma) in.flops = (in.sub == kFma ? 2 : 1) * (packed ? 2 : 1);
  const size_t sources = st.operands.size() - 1;
  if (sources == 1) {
    decode_operands(dec, st, in, t, {t});
    in.b = in.c = in.a;
  } else if (sources == 2) {
    decode_operands(dec, st, in, t, {t, t});
    in.c = in.a;
  } else {
    decode_operands(dec, st, in, t, {t, t, t});
    if (in.sub == kMin || in.sub == kMax) dec.fail("three-input min and max of halves");
  }
  if (packed) {
    in.fn = bf16 ? exec_packed<Bf16> : exec_packed<Half>;
  } else {
    in.fn = bf16 ? exec_half<Bf16, false> : exec_half<Half, false>;
  }
  return true;
}

void register_half(OpcodeMap&) {}

}  // namespace vgpu::ops
