// What the families of instructions share: lane loops, operand decoding and the list of families.
//
// To add an instruction: write a handler `void exec_x(Warp&, const Instr&, u32 mask)` that computes
// the lanes in `mask` and ends with `w.shadow(in, mask)`, and a decoder that takes every modifier
// it understands off `Modifiers`, fills the operands and sets `in.fn`; register the decoder under
// the base opcode. A modifier that is left over is reported as unsupported.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "check/scope.h"
#include "common/minifloat.h"
#include "machine/decoder.h"
#include "machine/warp.h"

namespace vgpu::ops {

// d[lane] = f(lane) for the lanes in mask. With all lanes present the loop vectorises.
template <class D, class F>
inline void for_lanes(Warp& w, u32 mask, D* __restrict d, F f) {
  if (w.full(mask)) {
    for (int lane = 0; lane < kLanes; ++lane) d[lane] = f(lane);
  } else {
    for_each_lane(mask, [&](int lane) { d[lane] = f(lane); });
  }
}

template <class D, class S, class F>
inline void unary(Warp& w, const Instr& in, u32 mask, F f) {
  const S* a = w.lanes<S>(in.a);
  D* d = w.lanes<D>(in.dst);
  D out[kLanes];
  if (w.full(mask)) {
    for (int l = 0; l < kLanes; ++l) out[l] = f(a[l]);
    std::memcpy(d, out, sizeof out);
  } else {
    for_each_lane(mask, [&](int l) { d[l] = f(a[l]); });
  }
  w.shadow(in, mask);
}
template <class D, class S, class F>
inline void binary(Warp& w, const Instr& in, u32 mask, F f) {
  const S* a = w.lanes<S>(in.a);
  const S* b = w.lanes<S>(in.b);
  D* d = w.lanes<D>(in.dst);
  D out[kLanes];
  if (w.full(mask)) {
    for (int l = 0; l < kLanes; ++l) out[l] = f(a[l], b[l]);
    std::memcpy(d, out, sizeof out);
  } else {
    for_each_lane(mask, [&](int l) { d[l] = f(a[l], b[l]); });
  }
  w.shadow(in, mask);
}
template <class D, class S, class C, class F>
inline void ternary(Warp& w, const Instr& in, u32 mask, F f) {
  const S* a = w.lanes<S>(in.a);
  const S* b = w.lanes<S>(in.b);
  const C* c = w.lanes<C>(in.c);
  D* d = w.lanes<D>(in.dst);
  D out[kLanes];
  if (w.full(mask)) {
    for (int l = 0; l < kLanes; ++l) out[l] = f(a[l], b[l], c[l]);
    std::memcpy(d, out, sizeof out);
  } else {
    for_each_lane(mask, [&](int l) { d[l] = f(a[l], b[l], c[l]); });
  }
  w.shadow(in, mask);
}

// Up to eight bytes, as a number.
inline u64 first_bytes(const u8* data, u32 bytes) {
  u64 v = 0;
  std::memcpy(&v, data, std::min<u32>(bytes, sizeof v));
  return v;
}

// Lane masks of predicates.
inline u32 read_pred(Warp& w, const Operand& p) { return p.negated ? ~w.pred(p) : w.pred(p); }
inline void write_pred(Warp& w, const Operand& p, u32 mask, u32 value) {
  u32& d = w.pred(p);
  d = (d & ~mask) | (value & mask);
}

Rounding take_rounding(Modifiers& m, Rounding fallback = Rounding::kNearestEven);
// d, a[, b[, c]] with sources of the given types; checks the operand count.
void decode_operands(Decoder& dec, const ptx::Statement& st, Instr& in, ptx::Type dst,
                     std::initializer_list<ptx::Type> sources);
void require_operands(Decoder& dec, const ptx::Statement& st, size_t count);
// Of the index of .cta, .cluster, .gpu or .sys; of gpu scope where there is none.
inline u8 scope_of(int index) {
  return index == 0 ? u8{kCtaScope} : index == 1 ? u8{kClusterScope} : u8{kGpuScope};
}
void lower_granule(Decoder& dec, const Instr& in);
void decode_cluster_barrier(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in);
bool decode_proxy_fence(Modifiers& mods, Instr& in);
void exec_watched(Warp& w, const Instr& in, u32 mask);
void decode_bulk(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in);
void decode_async_value(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in);
// An atomic's operation and type, at an address: returns the old value.
u64 update_atomically(const Instr& in, u8* address, u64 b, u64 c);
void decode_cp_async_arrive(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in);

void register_integer(OpcodeMap& t);
void register_bits(OpcodeMap& t);
void register_float(OpcodeMap& t);
void register_special(OpcodeMap& t);
void register_half(OpcodeMap& t);
void register_compare(OpcodeMap& t);
void register_convert(OpcodeMap& t);
void register_move(OpcodeMap& t);
void register_memory(OpcodeMap& t);
void register_atomic(OpcodeMap& t);
void register_control(OpcodeMap& t);
void register_collective(OpcodeMap& t);
void register_matrix(OpcodeMap& t);
void register_async(OpcodeMap& t);
void register_mbarrier(OpcodeMap& t);
void register_cluster(OpcodeMap& t);
void register_wgmma(OpcodeMap& t);
void register_warpgroup(OpcodeMap& t);
void register_tensormap(OpcodeMap& t);
void register_video(OpcodeMap& t);
void register_all(OpcodeMap& t);

}  // namespace vgpu::ops
