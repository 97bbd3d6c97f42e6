// mov, with packing and unpacking of vectors. PTX ISA 9.0 sections 9.7.9.2, 9.7.9.3.
#include <chrono>

#include "machine/cta.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

template <class T>
void exec_mov(Warp& w, const Instr& in, u32 m) {
  T* d = w.lanes<T>(in.dst);
  const T* a = w.lanes<T>(in.a);
  if (w.full(m)) {
    std::memmove(d, a, sizeof(T) * kLanes);
  } else {
    for_each_lane(m, [&](int l) { d[l] = a[l]; });
  }
  w.shadow(in, m);
}
void exec_mov_pred(Warp& w, const Instr& in, u32 m) {
  write_pred(w, in.dst, m, read_pred(w, in.a));
  w.shadow(in, m);
}
struct Wide128 {
  u64 lo, hi;
};

// Address of a variable in the lane's stack frame.
void exec_mov_frame(Warp& w, const Instr& in, u32 m) {
  for_each_lane(m,
                [&](int l) { w.set_value(in.dst, l, w.frame_base(l) + static_cast<u64>(in.imm)); });
  w.set_defined(in.dst, m);
}

// mov.b32 d, {a, b} and the like: elements from the lowest bytes up.
void exec_pack(Warp& w, const Instr& in, u32 m) {
  const Operand* parts = &w.operand(in.pool);
  const u32 n = in.pool_count;
  const u32 bytes = in.dst.width / n;
  u32 maybe = w.undef(in.dst);
  for (u32 i = 0; i < n; ++i) maybe |= w.undef(parts[i]);
  for_each_lane(m, [&](int l) {
    u8 out[16] = {};
    for (u32 i = 0; i < n; ++i) {
      const u64 v = w.value(parts[i], l);
      std::memcpy(out + size_t{i} * bytes, &v, bytes);
    }
    std::memcpy(w.lanes<u8>(in.dst) + static_cast<size_t>(l) * in.dst.width, out, in.dst.width);
  });
  maybe &= m;
  if (maybe == 0) return;
  for_each_lane(maybe, [&](int l) {
    u32 undefined = 0;
    for (u32 i = 0; i < n; ++i)
      undefined |= (w.undef_of(parts[i], l) & ((1u << bytes) - 1)) << (i * bytes);
    w.set_undef(in.dst, l, undefined & 0xff);
  });
}
void exec_unpack(Warp& w, const Instr& in, u32 m) {
  const Operand* parts = &w.operand(in.pool);
  const u32 n = in.pool_count;
  const u32 bytes = in.a.width / n;
  u32 maybe = w.undef(in.a);
  for (u32 i = 0; i < n; ++i) maybe |= w.undef(parts[i]);
  for_each_lane(m, [&](int l) {
    u8 value[16];
    std::memcpy(value, w.lanes<u8>(in.a) + static_cast<size_t>(l) * in.a.width, in.a.width);
    const u32 undefined = (maybe >> l) & 1 ? w.undef_of(in.a, l) : 0;
    for (u32 i = 0; i < n; ++i) {
      u64 v = 0;
      std::memcpy(&v, value + size_t{i} * bytes, bytes);
      w.set_value(parts[i], l, v);
      if ((maybe >> l) & 1)
        w.set_undef(parts[i], l, (undefined >> (i * bytes)) & ((1u << bytes) - 1));
    }
  });
}

// Clocks: a count that only grows. Nothing should depend on how fast.
void exec_clock(Warp& w, const Instr& in, u32 m) {
  const u64 v = w.tick() >> (in.sub == 1 ? 32 : 0);
  for_each_lane(m, [&](int l) { w.set_value(in.dst, l, v); });
  w.set_defined(in.dst, m);
}

void decode_mov(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const Type t = mods.take_type();
  in.cls = InstrClass::kMove;
  in.shadow = ShadowRule::kBitwise;
  require_operands(dec, st, 2);
  const ptx::Operand &d = st.operands[0], &a = st.operands[1];
  using Kind = ptx::Operand::Kind;
  const int bytes = ptx::type_bytes(t);
  if (d.kind == Kind::kVector && d.elements.size() > 1) {
    in.a = dec.source(a, t);
    const int part = in.a.width / static_cast<int>(d.elements.size());
    dec.pool_dests(d, in, part);
    in.fn = part == 0 ? nullptr : exec_unpack;
    return;
  }
  in.dst = dec.dest(d, bytes);
  if (a.kind == Kind::kVector && a.elements.size() > 1) {
    const int part = in.dst.width / static_cast<int>(a.elements.size());
    for (const ptx::Operand& e : a.elements) dec.pool_add(dec.source_bytes(e, part), in);
    in.fn = part == 0 ? nullptr : exec_pack;
    return;
  }
  if (const auto frame = dec.frame_offset(a)) {
    in.imm = *frame;
    in.fn = exec_mov_frame;
    return;
  }
  if (a.kind == Kind::kName &&
      (a.name.starts_with("%clock") || a.name.starts_with("%globaltimer"))) {
    in.sub = a.name.ends_with("hi") ? 1 : 0;
    in.fn = exec_clock;
    return;
  }
  if (t == Type::kPred) {
    in.a = dec.predicate(a);
    in.fn = exec_mov_pred;
    return;
  }
  in.a = dec.source(a, t);
  if (in.a.width != in.dst.width) dec.fail("operands of different width");
  switch (in.dst.width) {
    case 2:
      in.fn = exec_mov<u16>;
      break;
    case 4:
      in.fn = exec_mov<u32>;
      break;
    case 8:
      in.fn = exec_mov<u64>;
      break;
    case 16:
      in.fn = exec_mov<Wide128>;
      break;
    default:
      break;
  }
}

}  // namespace

void register_move(OpcodeMap& t) { t["mov"] = decode_mov; }

}  // namespace vgpu::ops
