// What warps and warpgroups do together beside wgmma. PTX ISA 9.0 sections 9.7.19.5 (setmaxnreg)
// and 9.7.14.5.16 (stmatrix).
#include <algorithm>

#include "common/error.h"
#include "machine/access.h"
#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

// in.sub: 0 .dec, 1 .inc; imm the count.
void exec_setmaxnreg(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  if (!w.retries()) {
    if (!cta.wgmma.step(w, in, m)) return;
    cta.registers.check(w, in);
  }
  cta.registers.set(w, in);
}
void decode_setmaxnreg(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kBarrier;
  in.flow = Flow::kAligned;
  const int action = mods.take_one({"dec", "inc"});
  if (action < 0 || !mods.take("sync") || !mods.take("aligned") || !mods.take("u32"))
    dec.fail("setmaxnreg needs .inc or .dec, .sync.aligned.u32");
  require_operands(dec, st, 1);
  in.sub = static_cast<u8>(action);
  in.imm = dec.constant(st.operands[0]);
  u32& largest = dec.program().largest_increase;
  if (action == 1) largest = std::max(largest, static_cast<u32>(in.imm));
  in.fn = exec_setmaxnreg;
}

// Lanes 8i..8i+7 give the addresses of the rows of matrix i; lane l holds elements 2 * (l % 4) and
// the next of row l / 4; with .trans, rows and columns change places.
void exec_stmatrix(Warp& w, const Instr& in, u32 m) {
  const u32 count = in.vec;
  const u32 rows = count == 4 ? kAllLanes : (1u << (8 * count)) - 1;
  u64 address[kLanes];
  gather_addresses(w, in, m & rows, address);
  u16 data[4][8][8];
  u8 undefined[4][8][8];  // two bits per element
  for (u32 x = 0; x < count; ++x) {
    const Operand& source = w.operand(in.pool + x);
    const u32* v = w.lanes<u32>(source);
    for (int l = 0; l < kLanes; ++l) {
      const u32 u = w.undef_of(source, l);
      for (int i = 0; i < 2; ++i) {
        const int across = l % 4 * 2 + i;
        const int row = in.flag ? across : l / 4, column = in.flag ? l / 4 : across;
        data[x][row][column] = static_cast<u16>(v[l] >> (16 * i));
        undefined[x][row][column] = static_cast<u8>((u >> (2 * i)) & 3);
      }
    }
  }
  Allocation* cache = nullptr;
  for_each_lane(m & rows, [&](int l) {
    const Target t = locate(w, in, l, address[l], 16, true, cache);
    if (t.kind != Target::Kind::kShared)
      w.fault(kFaultInvalidAddressSpace, FindingKind::kOutOfBounds, in, l,
              "stmatrix to memory that is not shared");
    check_race(w, in, l, t.shared_offset, 16, true, false);
    std::memcpy(t.data, data[l / 8][l % 8], 16);
    u32 bytes = 0;
    for (int i = 0; i < 8; ++i) bytes |= u32{undefined[l / 8][l % 8][i]} << (2 * i);
    mark(t, 16, bytes);
  });
  if (!w.cta().launch.machine.count) return;
  for (u32 x = 0; x < count; ++x) {  // one pass per matrix when its rows hit different banks
    u64 pass[kLanes];
    for (u32 l = 0; l < kLanes; ++l) pass[l] = address[x * 8 + l % 8];
    count_shared(w, in, 0xff, pass, 16);
  }
}
void decode_stmatrix(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kMatrix;
  in.flow = Flow::kAligned;
  if (!mods.take("sync") || !mods.take("aligned")) dec.fail("stmatrix needs .sync.aligned");
  if (mods.has("m16n8") || mods.has("b8")) dec.fail("stmatrix of 8-bit elements needs sm_100a");
  if (!mods.take("m8n8")) dec.fail("this stmatrix shape is not supported");
  const int count = mods.take_one({"x1", "x2", "x4"});
  if (count < 0) dec.fail("stmatrix needs .x1, .x2 or .x4");
  in.vec = static_cast<u8>(1 << count);
  in.flag = mods.take("trans");
  in.space =
      mods.take_one({"shared", "shared::cta"}) >= 0 ? ptx::Space::kShared : ptx::Space::kGeneric;
  if (!mods.take("b16")) dec.fail("stmatrix of this type is not supported");
  require_operands(dec, st, 2);
  dec.address(st.operands[0], in);
  dec.pool_sources(st.operands[1], Type::kB32, in);
  if (in.pool_count != in.vec) dec.fail("vector length does not match");
  in.fn = exec_stmatrix;
}

}  // namespace

void register_warpgroup(OpcodeMap& t) {
  t["setmaxnreg"] = decode_setmaxnreg;
  t["stmatrix"] = decode_stmatrix;
}

}  // namespace vgpu::ops
