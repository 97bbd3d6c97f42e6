// Bulk copies. PTX ISA 9.0 sections 9.7.9.25.4 (cp.async.bulk, cp.reduce.async.bulk, prefetch),
// 9.7.9.25.5 (the same with a tensor map), 9.7.9.25.6 (bulk groups); 9.7.9.12 (st.async) and
// 9.7.13.7 (red.async), which complete as bulk copies do.
#include <algorithm>

#include "async/bulk.h"
#include "async/tensor_map.h"
#include "common/error.h"
#include "common/hex.h"
#include "machine/access.h"
#include "machine/cluster.h"
#include "machine/launch.h"
#include "machine/ops/bulk.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

// What one lane's copy is made of.
struct Issue {
  Warp& w;
  const Instr& in;
  int lane;
  const BulkForm& form;

  [[noreturn]] void misuse(const std::string& message) const {
    w.fault(kFaultMisaligned, FindingKind::kBulkMisuse, in, lane, message);
  }
  u64 value(i32 operand) const {
    const Operand& o = w.operand(static_cast<u32>(operand));
    if ((w.undef(o) >> lane & 1) != 0)
      w.report(FindingKind::kUndefinedAddress, in, lane, "an operand of the copy is undefined");
    return w.value(o, lane);
  }
  u64 address(const BulkForm::Address& a) const {
    const Operand& o = w.operand(a.operand);
    const u64 v = value(static_cast<i32>(a.operand));
    return o.width == 8 ? v + static_cast<u64>(a.offset)
                        : static_cast<u32>(v) + static_cast<u32>(a.offset);
  }
  // The place of an operand; `bytes` from there must exist.
  Target place(const BulkForm::Address& a, u64 at, u32 bytes, bool write) const {
    Instr part = in;
    part.space = a.space;
    part.in_cluster = a.in_cluster;
    Allocation* cache = nullptr;
    const Target first = locate(w, part, lane, at, 1, write, cache);
    if (bytes > 1) locate(w, part, lane, at + bytes - 1, 1, write, cache);
    return first;
  }
  Target shared(const BulkForm::Address& a, u32 alignment, u32 bytes, bool write) const {
    const u64 at = address(a);
    if (at % alignment != 0)
      misuse("shared address " + hex(at) + " is no multiple of " + std::to_string(alignment));
    const Target t = place(a, at, bytes, write);
    if (t.kind != Target::Kind::kShared) misuse("address " + hex(at) + " is not in shared memory");
    return t;
  }
};

u32 own_offset(const Target& t) { return static_cast<u32>(t.data - t.cta->shared.data()); }

// With `copy`: its race check needs to know where the map is.
TensorMap tensor_map(const Issue& issue, BulkCopy* copy = nullptr) {
  const u64 at = issue.address(issue.form.tensor);
  if (at % 64 != 0) issue.misuse("tensor map at " + hex(at) + ", which is no multiple of 64");
  const Target t = issue.place(issue.form.tensor, at, 128, false);
  TensorMap map;
  std::memcpy(static_cast<void*>(&map), t.data, sizeof map);
  if (t.kind != Target::Kind::kGlobal || map.magic != TensorMap::kMagic)
    issue.misuse("there is no tensor map at " + hex(at));
  if (map.rank != issue.form.rank) {
    issue.misuse("the tensor map has " + std::to_string(map.rank) + " dimensions, the copy " +
                 std::to_string(issue.form.rank));
  }
  if (copy != nullptr) {
    copy->map = t.allocation;
    copy->map_offset = t.bit_offset;
  }
  return map;
}

// Pieces of the box that the coordinates name, from or to `shared`, an offset.
void tensor_pieces(const Issue& issue, const TensorMap& map, u32 shared, bool write,
                   BulkCopy& copy) {
  i32 at[TensorMap::kMaxRank] = {};
  for (u32 d = 0; d < map.rank; ++d)
    at[d] = static_cast<i32>(issue.value(static_cast<i32>(issue.form.coordinates + d)));
  BulkForm::Address global;
  global.space = ptx::Space::kGlobal;
  const GlobalMemory& memory = issue.w.cta().launch.machine.memory;
  const Allocation* a = nullptr;
  for (const BoxPiece& p : box_pieces(map, at, shared)) {
    BulkCopy::Piece piece;
    piece.shared = piece.target = static_cast<u32>(p.shared);
    piece.bytes = p.bytes;
    if (p.global != 0) {
      if (a == nullptr || !a->contains(p.global, p.bytes)) {
        issue.place(global, p.global, p.bytes, write);  // says what is wrong
        a = memory.find(p.global);
      }
      piece.allocation = a;
      piece.offset = p.global - a->base;
    }
    copy.pieces.push_back(piece);
  }
  copy.element = map.element_bytes();
  copy.fill_nan = map.fill_nan;
  // An H100 loads subnormals of the flushing types as they are.
  copy.cut = map.type == TensorMap::kTfloat32 || map.type == TensorMap::kTfloat32Ftz;
}

u32 plain_size(const Issue& issue) {
  const u64 bytes = issue.value(issue.form.size);
  if (bytes % 16 != 0) issue.misuse("size " + std::to_string(bytes) + " is no multiple of 16");
  if (bytes >= 1u << 20) issue.misuse("size " + std::to_string(bytes) + " is too large");
  return static_cast<u32>(bytes);
}
void plain_pieces(const Issue& issue, const BulkForm::Address& global, u32 shared, u32 bytes,
                  bool write, BulkCopy& copy) {
  const u64 at = issue.address(global);
  if (at % 16 != 0) issue.misuse("global address " + hex(at) + " is no multiple of 16");
  const Target t = issue.place(global, at, bytes, write);
  if (t.kind != Target::Kind::kGlobal) issue.misuse("address " + hex(at) + " is not global");
  if (!t.allocation->contains(at, bytes)) issue.misuse("the copy crosses two allocations");
  constexpr u32 kPiece = 256;
  for (u32 i = 0; i < bytes; i += kPiece) {
    copy.pieces.push_back(
        {t.allocation, t.bit_offset + i, shared + i, shared + i, std::min(kPiece, bytes - i)});
  }
}

// The mbarrier that counts what comes into `target`.
void check_barrier(const Issue& issue, const Target& barrier, Cta& target) {
  Warp& w = issue.w;
  Cta& cta = w.cta();
  const u32 offset = own_offset(barrier);
  check_race(w, issue.in, issue.lane, target.race.byte(offset) - cta.race.byte(0), 8, true, true);
  const MBarriers::Object* object = target.mbarriers.find(target, offset);
  if (object == nullptr) {
    w.fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, issue.in, issue.lane,
            target.mbarriers.known(offset)
                ? "the mbarrier has been written over"
                : "there is no initialised mbarrier at " + hex(offset + target.shared_base) +
                      (&target == &cta ? "" : " of CTA " + std::to_string(target.rank)));
  }
  const u32 thread = cta.race.thread(cta.thread_index(w, issue.lane));
  if (!object->shown &&
      !cta.race.tracker().proxied(thread, object->init_thread, object->init_clock)) {
    w.report(FindingKind::kProxy, issue.in, issue.lane,
             "the mbarrier's initialisation lacks a fence.mbarrier_init or fence.proxy.async "
             "before the copy that completes on it");
    target.mbarriers.fence_init(object->init_thread);  // one missing fence is one finding
  }
}

// What the copy does to global memory, and that it reads its tensor map there until it is complete.
void check_global_memory(const Issue& issue, BulkCopy& copy) {
  Warp& w = issue.w;
  Cta& cta = w.cta();
  GlobalRaces& races = cta.launch.races;
  GlobalRaces::Access access{cta.cluster.order};
  access.thread = cta.race.thread(copy.thread);
  access.site = issue.in.site;
  access.asynchronous = true;
  const auto check = [&](const Allocation* a, u64 offset, u32 bytes) {
    if (a == nullptr || a->read_only || a->place == Allocation::kNoPlace) return;
    if (copy.global_id == 0) copy.global_id = races.begin_operation();
    access.operation = copy.global_id;
    const GlobalReport r = races.access(access, a->place + offset, bytes);
    if (r.found) report_global_race(w, issue.in, issue.lane, access.write, r);
  };
  access.any_proxy = true;  // the map is read in a proxy of its own
  check(copy.map, copy.map_offset, 128);
  access.any_proxy = false;
  access.write = copy.target == nullptr;
  if (access.write && copy.reduce != nullptr) access.scope = kGpuScope;  // an atomic per element
  if (access.write) ++access.order.writes;
  // Pieces that a swizzle cut are one run of global memory.
  for (size_t i = 0; i < copy.pieces.size();) {
    const BulkCopy::Piece& first = copy.pieces[i];
    u64 end = first.offset + first.bytes;
    for (++i; i < copy.pieces.size(); ++i) {
      const BulkCopy::Piece& p = copy.pieces[i];
      if (p.allocation != first.allocation || p.offset != end) break;
      end += p.bytes;
    }
    check(first.allocation, first.offset, static_cast<u32>(end - first.offset));
  }
}

// Checks what the copy does to shared and global memory and sets it going.
void send(const Issue& issue, BulkCopy copy, const std::vector<ByteRange>& reads,
          const std::vector<ByteRange>& writes) {
  Warp& w = issue.w;
  Cta& cta = w.cta();
  copy.instr = &issue.in;
  copy.warp = &w;
  copy.lane = issue.lane;
  copy.thread = cta.thread_index(w, issue.lane);
  const u32 agent =
      copy.counted ? copy.target->race.agent(copy.barrier) : cta.race.thread(copy.thread);
  copy.id = cta.race.begin_operation(copy.thread, agent, issue.in.site);
  check_global_memory(issue, copy);
  for (const ByteRange& r : reads) {
    const RaceReport report = cta.race.async_read(copy.id, r.offset, r.bytes);
    if (!report.found) continue;
    report_race(w, issue.in, issue.lane, r.offset, false, report);
    if (report.other_wrote) cta.race.tracker().forgive(cta.race.thread(copy.thread));
  }
  for (const ByteRange& r : writes) {
    const u32 relative = copy.target->race.byte(r.offset) - cta.race.byte(0);
    const RaceReport report = cta.race.async_write(copy.id, relative, r.bytes);
    if (report.found) report_race(w, issue.in, issue.lane, relative, true, report);
    if (report.found && report.proxy) cta.race.tracker().forgive(cta.race.thread(copy.thread));
    if (copy.reduce == nullptr)
      std::memset(copy.target->shared_defined.data() + r.offset, 0, r.bytes);
  }
  if (copy.pieces.empty()) return;
  cta.cluster.bulk.issue(std::make_shared<BulkCopy>(std::move(copy)));
}

void count(const Issue& issue, const BulkCopy& copy, u32 copies, bool write) {
  Cta& cta = issue.w.cta();
  if (!cta.launch.remembers()) return;
  PcCount& c = cta.counts[issue.in.site];
  ++c.requests;
  for (const BulkCopy::Piece& p : copy.pieces) {
    c.moved += u64{p.bytes} * copies;
    if (p.allocation == nullptr) continue;
    c.bytes += p.bytes;
    c.sectors += (p.offset + p.bytes - 1) / 32 - p.offset / 32 + 1;
    cta.launch.touch(*p.allocation, p.offset, p.bytes, write);
    check_grid_order(issue.w, issue.in, issue.lane, *p.allocation, p.offset, p.bytes, write);
  }
}

// Bytes of shared memory that a box's pieces touch: with a swizzle whole lines of 128 bytes.
u32 box_span(const TensorMap& map) {
  return static_cast<u32>(align_up(map.box_bytes(), map.swizzle_bytes != 0 ? 128 : 1));
}

// Into shared memory, from global memory or a CTA's own shared memory.
void issue_load(const Issue& issue) {
  const BulkForm& form = issue.form;
  Warp& w = issue.w;
  const bool tensor = form.tensor.valid;
  TensorMap map;
  BulkCopy copy;
  if (tensor) map = tensor_map(issue, &copy);
  const u32 bytes = tensor ? box_span(map) : plain_size(issue);
  const Target to = issue.shared(form.to, tensor ? 128 : 16, bytes, true);
  const Target barrier = issue.shared(form.barrier, 8, 8, true);
  const u32 offset = own_offset(to);
  copy.counted = true;
  copy.barrier = own_offset(barrier);
  copy.reduce = form.reduces ? &issue.in : nullptr;
  std::vector<ByteRange> reads;
  if (tensor) {
    tensor_pieces(issue, map, offset, false, copy);
  } else if (form.from.space == ptx::Space::kGlobal) {
    plain_pieces(issue, form.from, offset, bytes, false, copy);
  } else {
    const u32 from = own_offset(issue.shared(form.from, 16, bytes, false));
    copy.source = &w.cta();
    for (u32 i = 0; i < bytes; i += 256) {
      copy.pieces.push_back({nullptr, 0, from + i, offset + i, std::min(256u, bytes - i)});
    }
    if (bytes != 0) reads.push_back({from, bytes});
  }
  if (form.reduces) copy.element = issue.in.access_bytes;
  std::vector<Cta*> targets = {to.cta};
  if (form.mask >= 0) {
    targets.clear();
    const u64 mask = issue.value(form.mask) & 0xffff;
    for (u32 rank = 0; rank < 16; ++rank) {
      if ((mask >> rank & 1) == 0) continue;
      if (rank >= w.cta().cluster.size())
        issue.misuse("the mask names CTA " + std::to_string(rank) + " of a cluster of " +
                     std::to_string(w.cta().cluster.size()));
      targets.push_back(w.cta().cluster.ctas[rank].get());
    }
  } else if (barrier.cta != to.cta) {
    issue.misuse("the mbarrier and the destination belong to different CTAs");
  }
  count(issue, copy, static_cast<u32>(targets.size()), false);
  for (Cta* target : targets) {
    if (target->live == 0) {
      w.report(FindingKind::kExitedPeer, issue.in, issue.lane,
               "CTA " + std::to_string(target->rank) + " of the cluster has exited");
    }
    check_barrier(issue, barrier, *target);
    if (tensor) target->wgmma.tile_copied(offset + target->shared_base, bytes, map.swizzle_bytes);
    BulkCopy part = copy;
    part.target = target;
    std::vector<ByteRange> writes;
    if (bytes != 0) writes.push_back({offset, bytes});
    send(issue, std::move(part), reads, writes);
  }
}

// From a CTA's own shared memory to global memory.
void issue_store(const Issue& issue, const Instr* reduce) {
  const BulkForm& form = issue.form;
  const bool tensor = form.tensor.valid;
  TensorMap map;
  BulkCopy copy;
  if (tensor) map = tensor_map(issue, &copy);
  const u32 bytes = tensor ? box_span(map) : plain_size(issue);
  const u32 from = own_offset(issue.shared(form.from, tensor ? 128 : 16, bytes, false));
  copy.source = &issue.w.cta();
  if (tensor) {
    tensor_pieces(issue, map, from, true, copy);
  } else {
    plain_pieces(issue, form.to, from, bytes, true, copy);
  }
  copy.reduce = reduce;
  if (reduce != nullptr) copy.element = reduce->access_bytes;
  count(issue, copy, 1, true);
  std::vector<ByteRange> reads;
  if (bytes != 0) reads.push_back({from, bytes});
  send(issue, std::move(copy), reads, {});
}

template <class F>
void for_each_copy(Warp& w, const Instr& in, u32 m, F&& f) {
  const BulkForm& form = w.cta().program.bulk[in.target];
  for_each_lane(m, [&](int l) { f(Issue{w, in, l, form}); });
}
}  // namespace

void exec_bulk_load(Warp& w, const Instr& in, u32 m) { for_each_copy(w, in, m, issue_load); }
void exec_bulk_store(Warp& w, const Instr& in, u32 m) {
  for_each_copy(w, in, m, [&](const Issue& issue) {
    issue_store(issue, issue.form.reduces ? &in : nullptr);
  });
}

namespace {

// The type of a tensor reduction is that of the tensor: one instruction for each.
const Instr& typed(const Instr& in, TensorMap::DataType type) {
  constexpr Type kTypes[] = {Type::kU8,  Type::kU16, Type::kU32, Type::kS32, Type::kU64,
                             Type::kS64, Type::kF16, Type::kF32, Type::kF64, Type::kBf16,
                             Type::kF32, Type::kF32, Type::kF32};
  static const auto table = [&] {
    std::vector<Instr> t;
    for (u8 op = 0; op < kReductions; ++op) {
      for (Type k : kTypes) {
        Instr i;
        i.sub = op;
        i.type = k;
        i.access_bytes = static_cast<u8>(ptx::type_bytes(k));
        t.push_back(i);
      }
    }
    return t;
  }();
  return table[in.sub * std::size(kTypes) + type];
}

}  // namespace

void exec_bulk_reduce_tensor(Warp& w, const Instr& in, u32 m) {
  for_each_copy(w, in, m, [&](const Issue& issue) {
    const TensorMap map = tensor_map(issue);
    if (map.element_bytes() == 1 || (map.element_bytes() == 2 && map.type == TensorMap::kUint16))
      issue.misuse("tensors of this type cannot be reduced");
    issue_store(issue, &typed(in, map.type));
  });
}
void exec_bulk_prefetch(Warp& w, const Instr& in, u32 m) {
  for_each_copy(w, in, m, [&](const Issue& issue) {
    BulkCopy copy;
    if (issue.form.tensor.valid) {
      tensor_pieces(issue, tensor_map(issue), 0, false, copy);
    } else {
      plain_pieces(issue, issue.form.from, 0, plain_size(issue), false, copy);
    }
  });
}

void exec_bulk_commit(Warp& w, const Instr&, u32 m) {
  Cta& cta = w.cta();
  for_each_lane(m, [&](int l) { cta.cluster.bulk.commit(cta, cta.thread_index(w, l)); });
}
void exec_bulk_wait(Warp& w, const Instr& in, u32 m) {
  Cta& cta = w.cta();
  for_each_lane(m, [&](int l) {
    cta.cluster.bulk.wait_group(cta, cta.thread_index(w, l), static_cast<u32>(in.imm), in.flag);
  });
}

// st.async, red.async: a value of a register, or several.
void exec_async_value(Warp& w, const Instr& in, u32 m) {
  for_each_copy(w, in, m, [&](const Issue& issue) {
    const u32 bytes = u32{in.access_bytes} * in.vec;
    const Target to = issue.shared(issue.form.to, bytes, bytes, true);
    const Target barrier = issue.shared(issue.form.barrier, 8, 8, true);
    if (to.cta != barrier.cta)
      issue.misuse("the mbarrier and the destination belong to different CTAs");
    check_barrier(issue, barrier, *to.cta);
    BulkCopy copy;
    copy.counted = true;
    copy.target = to.cta;
    copy.barrier = own_offset(barrier);
    copy.element = in.access_bytes;
    copy.reduce = issue.form.reduces ? &in : nullptr;
    for (u32 e = 0; e < in.vec; ++e) {
      const Operand& o = w.operand(static_cast<u32>(issue.form.value) + e);
      const u64 v = w.value(o, issue.lane);
      const u32 undefined = w.undef_of(o, issue.lane);
      for (u32 b = 0; b < in.access_bytes; ++b) {
        copy.value.push_back(static_cast<u8>(v >> (8 * b)));
        copy.value_defined.push_back((undefined >> b & 1) != 0 ? 0 : 0xff);
      }
    }
    const u32 offset = own_offset(to);
    copy.pieces.push_back({nullptr, 0, 0, offset, bytes});
    send(issue, std::move(copy), {}, {{offset, bytes}});
  });
}

}  // namespace vgpu::ops
