// Asynchronous warpgroup-level matrix instructions. PTX ISA 9.0 section 9.7.15.
#include "async/wgmma.h"

#include <charconv>

#include "machine/cta.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

// A descriptor or predicate: the same in all lanes, or a finding.
u64 uniform(Warp& w, const Instr& in, const Operand& o, const char* name) {
  if (!o.valid) return 0;
  if (w.undef(o) != 0) {
    w.report(FindingKind::kUndefinedAddress, in, std::countr_zero(w.undef(o)),
             std::string(name) + " is undefined");
  }
  const u64 value = w.value(o, 0);
  bool same = o.width == 0 && (w.pred(o) == 0 || w.pred(o) == kAllLanes);
  if (o.width == 8) {
    u64 differing = 0;
    for (int l = 0; l < kLanes; ++l) differing |= w.lanes<u64>(o)[l] ^ value;
    same = differing == 0;
  }
  for (int l = 1; l < kLanes && !same; ++l) {
    if (w.value(o, l) == value) continue;
    w.report(FindingKind::kWarpgroup, in, l,
             std::string(name) + " differs from that of other lanes of the warp");
    break;
  }
  return o.negated ? value ^ 1 : value;
}

// Instr: in.a descriptor of A (vec 1: the pool's last four registers are A), in.b descriptor of B,
// in.c scale-d, imm bit 0 and 1 negate A and B, flag and relu: A and B are MN-major, sub columns
// divided by 8, sub2 the accumulators' type, target K; the pool begins with the accumulators.
void exec_mma_async(Warp& w, const Instr& in, u32 m) {
  const u64 a = uniform(w, in, in.a, "the descriptor of A");
  const u64 b = uniform(w, in, in.b, "the descriptor of B");
  const u64 scale_d = uniform(w, in, in.c, "scale-d");
  if (!w.cta().wgmma.step(w, in, m, {a, b, scale_d})) return;
  w.cta().wgmma.issue(w, in, a, b, scale_d != 0);
}
void exec_fence(Warp& w, const Instr& in, u32 m) {
  if (w.cta().wgmma.step(w, in, m)) w.cta().wgmma.fence(w);
}
void exec_commit(Warp& w, const Instr& in, u32 m) {
  if (w.cta().wgmma.step(w, in, m)) w.cta().wgmma.commit(w);
}
void exec_wait(Warp& w, const Instr& in, u32 m) {
  Wgmma& wgmma = w.cta().wgmma;
  if (!w.retries() && !wgmma.step(w, in, m)) return;
  if (!wgmma.wait(w, in, static_cast<u32>(in.imm))) w.park(" for the rest of its warpgroup");
}

// "m64n128k16": the number behind `axis`.
u32 extent(std::string_view shape, char axis) {
  u32 value = 0;
  const size_t at = shape.find(axis);
  if (at != std::string_view::npos)
    std::from_chars(shape.data() + at + 1, shape.data() + shape.size(), value);
  return value;
}

// Integers have no odd multiples of 8 columns above 24, all others have every multiple of 8.
bool columns_allowed(Type a, u32 n) {
  if (n == 0 || n > 256 || n % 8 != 0) return false;
  const bool integers = a == Type::kS8 || a == Type::kU8 || a == Type::kB1;
  return !integers || n <= 24 || n % 16 == 0;
}

bool types_allowed(Type d, Type a, Type b) {
  const auto integer = [](Type t) { return t == Type::kS8 || t == Type::kU8; };
  const auto fp8 = [](Type t) { return t == Type::kE4m3 || t == Type::kE5m2; };
  const bool f16_too = d == Type::kF32 || d == Type::kF16;
  return (a == Type::kF16 && b == a && f16_too) ||
         ((a == Type::kBf16 || a == Type::kTf32) && b == a && d == Type::kF32) ||
         (fp8(a) && fp8(b) && f16_too) || (integer(a) && integer(b) && d == Type::kS32) ||
         (a == Type::kB1 && b == a && d == Type::kS32);
}

void decode_mma_async(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kMatrix;
  if (mods.has("sp")) dec.fail("sparse wgmma is not supported");
  in.sat = mods.take("satfinite");
  const std::string_view shape = mods.take_any();
  const Type d = mods.take_type();
  in.type = mods.take_type();
  in.type2 = mods.take_type();
  if (!types_allowed(d, in.type, in.type2)) dec.fail("wgmma has no such combination of types");
  const bool bits = in.type == Type::kB1;
  if (bits && (!mods.take("and") || !mods.take("popc")))
    dec.fail("wgmma of single bits needs .and.popc");
  const u32 n = extent(shape, 'n'), k = 2 * elements_per_unit(in.type);
  if (extent(shape, 'm') != 64 || !columns_allowed(in.type, n) || extent(shape, 'k') != k)
    dec.fail("wgmma has no such shape for these types");
  in.sub = static_cast<u8>(n / 8);
  in.sub2 = d == Type::kF16 ? kWgmmaF16 : d == Type::kS32 ? kWgmmaS32 : kWgmmaF32;
  in.target = k;
  in.flops = 2 * 16 * n * k;
  in.fn = exec_mma_async;
  in.watch = kIsWgmma;
  dec.program().uses_async_proxy = true;

  const auto& ops = st.operands;
  const bool from_registers =
      ops.size() > 1 && ops[1].kind == ptx::Operand::Kind::kVector && ops[1].elements.size() > 1;
  in.vec = from_registers ? 1 : 0;
  const bool sixteen = in.type == Type::kF16 || in.type == Type::kBf16;
  const size_t scales = in.sub2 == kWgmmaS32 ? 0 : 2;
  const size_t transposes = !sixteen ? 0 : from_registers ? 1 : 2;
  require_operands(dec, st, 4 + scales + transposes);
  dec.pool_dests(ops[0], in, 4);
  if (in.pool_count != n / (in.sub2 == kWgmmaF16 ? 4 : 2))
    dec.fail("the number of accumulator registers does not fit the shape");
  if (from_registers) {
    dec.pool_sources(ops[1], Type::kB32, in);
    if (ops[1].elements.size() != 4) dec.fail("A needs four registers");
  } else {
    in.a = dec.source(ops[1], Type::kB64);
  }
  for (u32 i = 0; i < in.pool_count; ++i)
    dec.program().wgmma_registers.push_back(dec.program().pool[in.pool + i].id);
  in.b = dec.source(ops[2], Type::kB64);
  in.c = dec.predicate(ops[3]);
  for (size_t i = 0; i < scales; ++i) {
    const i64 scale = dec.constant(ops[4 + i]);
    if (scale != 1 && scale != -1) dec.fail("a scale is neither 1 nor -1");
    if (scale == -1) in.imm |= i64{1} << i;
  }
  const auto transposed = [&](size_t i) { return dec.constant(ops[i]) != 0; };
  if (transposes == 2) in.flag = transposed(6);
  if (transposes != 0) in.relu = transposed(5 + transposes);
}

void decode_wgmma(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.flow = Flow::kAligned;
  in.cls = InstrClass::kAsync;
  const int kind = mods.take_one({"mma_async", "fence", "commit_group", "wait_group"});
  if (!mods.take("sync") || !mods.take("aligned")) dec.fail("wgmma needs .sync.aligned");
  switch (kind) {
    case 0:
      decode_mma_async(dec, st, mods, in);
      return;
    case 1:
      in.fn = exec_fence;
      break;
    case 2:
      in.fn = exec_commit;
      break;
    case 3:
      require_operands(dec, st, 1);
      in.imm = dec.constant(st.operands[0]);
      if (in.imm < 0 || in.imm > 7) dec.fail("the number of groups must be 0 to 7");
      in.fn = exec_wait;
      return;
    default:
      dec.fail("this form of wgmma is not supported");
  }
  require_operands(dec, st, 0);
}

}  // namespace

void exec_watched(Warp& w, const Instr& in, u32 mask) {
  const Watched& watched = w.watched(in);
  w.cta().wgmma.touch(w, in, watched.registers, watched.move);
  watched.fn(w, in, mask);
}

void register_wgmma(OpcodeMap& t) { t["wgmma"] = decode_wgmma; }

}  // namespace vgpu::ops
