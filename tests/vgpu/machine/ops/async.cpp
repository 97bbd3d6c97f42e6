// cp.async and its groups. PTX ISA 9.0 section 9.7.9.25.3.
#include <algorithm>

#include "machine/access.h"
#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

// in.a shared address + imm, in.b global address + target (as a signed offset), in.c source size
// or in.d the predicate that says to ignore the source.
void exec_cp_async(Warp& w, const Instr& in, u32 m) {
  const u32 bytes = in.access_bytes;
  u64 to[kLanes], from[kLanes];
  gather_addresses(w, in, m, to);
  Instr source = in;
  source.a = in.b;
  source.imm = static_cast<i32>(in.target);
  source.space = ptx::Space::kGlobal;
  gather_addresses(w, source, m, from);
  Allocation* cache = nullptr;
  Allocation* none = nullptr;
  Cta& cta = w.cta();
  u32 reading = 0, whole = 0;  // whole: of one allocation
  const Allocation* from_one = nullptr;
  for_each_lane(m, [&](int l) {
    const Target target = locate(w, in, l, to[l], bytes, true, none);
    CpAsync::Copy copy;
    copy.shared = target.shared_offset;
    copy.bytes = static_cast<u8>(bytes);
    u32 size = bytes;
    if (in.c.valid) {
      if ((w.undef(in.c) >> l) & 1)
        w.report(FindingKind::kUndefinedAddress, in, l, "the source size is undefined");
      size = std::min(bytes, static_cast<u32>(w.value(in.c, l)));
    }
    if (in.d.valid && ((read_pred(w, in.d) >> l) & 1) != 0) size = 0;
    copy.source_bytes = static_cast<u8>(size);
    if (size != 0) {
      // The address must be aligned for the whole copy, but only `size` bytes are read.
      if (from[l] % bytes != 0) locate(w, source, l, from[l], bytes, false, cache);
      Target origin = locate(w, source, l, from[l], 1, false, cache);
      if (size > 1) locate(w, source, l, from[l] + size - 1, 1, false, cache);
      copy.source = origin.data;
      copy.defined = origin.defined_bits;
      copy.defined_offset = origin.bit_offset;
      if (origin.allocation != nullptr && size == bytes &&
          (whole == 0 || from_one == origin.allocation)) {
        from_one = origin.allocation;
        whole |= 1u << l;
      } else if (origin.allocation != nullptr) {
        check_global(w, source, l, *origin.allocation, origin.bit_offset, size, false);
      }
      reading |= 1u << l;
    }
    const u32 thread = cta.thread_index(w, l);
    const RaceReport r = cta.race.begin_async(thread, copy.shared, bytes, in.site);
    if (r.found) report_race(w, in, l, copy.shared, true, r);
    if (size == bytes) std::memset(cta.shared_defined.data() + copy.shared, 0, bytes);
    cta.cp_async.issue(cta, thread, copy);
  });
  if (whole != 0) check_global(w, source, whole, from, bytes, false, *from_one);
  if (cta.launch.remembers()) {
    count_global(w, source, reading, from, bytes, false, in);
    count_shared(w, in, m, to, bytes);
  }
}
void exec_commit(Warp& w, const Instr&, u32 m) {
  for_each_lane(m, [&](int l) { w.cta().cp_async.commit(w.cta().thread_index(w, l)); });
}
void exec_wait(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  for_each_lane(m, [&](int l) {
    const u32 thread = cta.thread_index(w, l);
    if (in.sub == 1) {
      cta.cp_async.wait_all(cta, thread);
    } else {
      cta.cp_async.wait_group(cta, thread, static_cast<u32>(in.imm));
    }
  });
}

void decode_cp(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kAsync;
  if (mods.has("bulk")) {
    decode_bulk(dec, st, mods, in);
    return;
  }
  if (!mods.take("async")) dec.fail("instruction '" + st.opcode + "' is not supported");
  if (mods.take("mbarrier")) {
    decode_cp_async_arrive(dec, st, mods, in);
    return;
  }
  if (mods.take("commit_group")) {
    in.fn = exec_commit;
    return;
  }
  if (mods.take("wait_group")) {
    in.imm = dec.constant(st.operands.at(0));
    in.fn = exec_wait;
    return;
  }
  if (mods.take("wait_all")) {
    in.sub = 1;
    in.fn = exec_wait;
    return;
  }
  const bool cg = mods.take_one({"ca", "cg"}) == 1;
  mods.take_one({"shared", "shared::cta"});
  mods.take("global");
  const bool policy = mods.take("L2::cache_hint");
  while (mods.take_one({"L2::64B", "L2::128B", "L2::256B"}) >= 0) {
  }
  in.space = ptx::Space::kGlobal;
  if (st.operands.size() < 3) dec.fail("operands are missing");
  Instr source;
  source.space = ptx::Space::kGlobal;
  dec.address(st.operands[1], source);
  in.b = source.a;
  in.target = static_cast<u32>(static_cast<i32>(source.imm));
  in.space = ptx::Space::kShared;
  dec.address(st.operands[0], in);
  const i64 bytes = dec.constant(st.operands[2]);
  if (bytes != 16 && (cg || (bytes != 4 && bytes != 8))) dec.fail("copy size is not allowed");
  in.access_bytes = static_cast<u8>(bytes);
  const size_t extra = st.operands.size() - 3 - (policy ? 1 : 0);
  if (extra == 1) {
    const Operand o = dec.source(st.operands[3], Type::kU32);
    (o.width == 0 ? in.d : in.c) = o;
  }
  lower_granule(dec, in);
  in.fn = exec_cp_async;
}

}  // namespace

void register_async(OpcodeMap& t) { t["cp"] = decode_cp; }

}  // namespace vgpu::ops
