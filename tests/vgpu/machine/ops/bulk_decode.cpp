// Bulk copies: from text to BulkForm. Sections as in bulk.cpp.
#include <algorithm>

#include "machine/ops/bulk.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

// Decoding. Operands go to the pool, addresses by way of an instruction of their own.
class Builder {
 public:
  explicit Builder(Decoder& dec) : dec_(dec), first_(static_cast<u32>(dec.program().pool.size())) {}
  BulkForm form;

  BulkForm::Address address(const ptx::Operand& op, ptx::Space space, bool in_cluster) {
    Instr part;
    part.space = space;
    ptx::Operand first = op;
    if (first.elements.size() > 1) first.elements.resize(1);
    dec_.address(first, part);
    return {static_cast<u32>(add(part.a)), part.imm, part.space, in_cluster, true};
  }
  i32 add(const Operand& o) {
    dec_.program().pool.push_back(o);
    return static_cast<i32>(dec_.program().pool.size() - 1);
  }
  i32 add(const ptx::Operand& op, Type type) { return add(dec_.source(op, type)); }
  // [map, {coordinates}]
  void tensor(const ptx::Operand& op) {
    if (op.elements.size() != 2) dec_.fail("a tensor map and coordinates are expected");
    form.tensor = address(op, ptx::Space::kGeneric, false);
    std::vector<ptx::Operand> list = {op.elements[1]};
    if (op.elements[1].kind == ptx::Operand::Kind::kVector) list = op.elements[1].elements;
    if (list.size() != form.rank) dec_.fail("wrong number of coordinates");
    std::vector<Operand> coordinates;
    for (const ptx::Operand& c : list) coordinates.push_back(dec_.source(c, Type::kS32));
    form.coordinates = static_cast<u32>(dec_.program().pool.size());
    for (const Operand& c : coordinates) add(c);
  }
  void finish(Instr& in) {
    dec_.program().uses_async_proxy = true;
    in.target = static_cast<u32>(dec_.program().bulk.size());
    dec_.program().bulk.push_back(form);
    in.pool = first_;
    in.pool_count = static_cast<u32>(dec_.program().pool.size()) - first_;
  }

 private:
  Decoder& dec_;
  u32 first_;  // operand
};

int take_reduction(Modifiers& mods) {
  return mods.take_one({"add", "min", "max", "inc", "dec", "and", "or", "xor"});
}

}  // namespace

void decode_bulk(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  const bool reduces = mods.take("reduce");
  mods.take("async");
  mods.take("bulk");
  if (mods.take("commit_group")) {
    in.fn = exec_bulk_commit;
    return;
  }
  if (mods.take("wait_group")) {
    in.flag = mods.take("read");
    in.imm = dec.constant(st.operands.at(0));
    in.fn = exec_bulk_wait;
    return;
  }
  const bool prefetch = mods.take("prefetch");
  const bool tensor = mods.take("tensor");
  if (mods.has("im2col") || mods.has("im2col_no_offs") || mods.has("tile::gather4") ||
      mods.has("tile::scatter4"))
    dec.fail("of the tensor modes only .tile is supported");
  Builder build(dec);
  BulkForm& form = build.form;
  if (tensor) {
    form.rank = static_cast<u32>(1 + mods.take_one({"1d", "2d", "3d", "4d", "5d"}));
    if (form.rank == 0) dec.fail("a dimension is expected");
    mods.take("tile");
  }
  const bool multicast = mods.take("multicast::cluster");
  if (mods.has("cta_group::1") || mods.has("cp_mask")) dec.fail("this needs a later device");
  const bool hint = mods.take("L2::cache_hint");
  const bool counted = mods.take("mbarrier::complete_tx::bytes");
  mods.take("bulk_group");
  mods.take("L2");
  // In the opcode the destination stands first.
  const size_t to_shared = std::min(st.opcode.find(".shared"), st.opcode.size());
  const size_t at_global = std::min(st.opcode.find(".global"), st.opcode.size());
  const bool into_shared = counted;
  if (!prefetch && into_shared != (to_shared < at_global))
    dec.fail("this direction has no such completion");
  mods.take("global");
  const bool in_cluster = mods.take("shared::cluster");
  const bool from_cta = mods.take("shared::cta");
  if (reduces) {
    const int op = take_reduction(mods);
    if (op < 0) dec.fail("a reduction is expected");
    in.sub = static_cast<u8>(op);
    form.reduces = true;
    mods.take("noftz");
    if (!tensor) {
      in.type = mods.take_type();
      in.access_bytes = static_cast<u8>(ptx::type_bytes(in.type));
    }
    // The order of float sums is seen, and so may be that of a tensor's.
    if (tensor || ptx::type_is_float(in.type)) dec.program().needs_order = true;
  }
  size_t next = 0;
  const auto operand = [&]() -> const ptx::Operand& {
    if (next >= st.operands.size()) dec.fail("operands are missing");
    return st.operands[next++];
  };
  const auto global = ptx::Space::kGlobal, shared = ptx::Space::kShared;
  if (prefetch) {
    if (tensor) {
      build.tensor(operand());
    } else {
      form.from = build.address(operand(), global, false);
      form.size = build.add(operand(), Type::kU32);
    }
    in.fn = exec_bulk_prefetch;
  } else if (into_shared) {
    form.to = build.address(operand(), shared, in_cluster);
    if (tensor) {
      build.tensor(operand());
    } else {
      const bool local = in_cluster && from_cta;
      form.from = build.address(operand(), local ? shared : global, false);
      form.size = build.add(operand(), Type::kU32);
    }
    form.barrier = build.address(operand(), shared, in_cluster);
    if (multicast) form.mask = build.add(operand(), Type::kU16);
    in.fn = exec_bulk_load;
  } else {
    if (tensor) {
      build.tensor(operand());
    } else {
      form.to = build.address(operand(), global, false);
    }
    form.from = build.address(operand(), shared, false);
    if (!tensor) form.size = build.add(operand(), Type::kU32);
    in.fn = tensor && reduces ? exec_bulk_reduce_tensor : exec_bulk_store;
  }
  if (hint) operand();
  if (next != st.operands.size()) dec.fail("more operands than expected");
  build.finish(in);
}

// st.async[.weak].shared::cluster.mbarrier::complete_tx::bytes[.vec].type [a], b, [mbar];
// red.async.relaxed.cluster....op.type [a], b, [mbar];
void decode_async_value(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kAsync;
  mods.take("async");
  mods.take_one({"weak", "relaxed"});
  mods.take("cluster");
  mods.take("shared::cluster");
  if (!mods.take("mbarrier::complete_tx::bytes")) dec.fail("this form is not supported");
  Builder build(dec);
  if (mods.name() == "red") {
    const int op = take_reduction(mods);
    if (op < 0) dec.fail("a reduction is expected");
    in.sub = static_cast<u8>(op);
    build.form.reduces = true;
  }
  const int vec = mods.take_one({"v2", "v4"});
  in.vec = static_cast<u8>(vec < 0 ? 1 : 2 << vec);
  in.type = mods.take_type();
  in.access_bytes = static_cast<u8>(ptx::type_bytes(in.type));
  require_operands(dec, st, 3);
  build.form.to = build.address(st.operands[0], ptx::Space::kShared, true);
  build.form.barrier = build.address(st.operands[2], ptx::Space::kShared, true);
  std::vector<ptx::Operand> list = {st.operands[1]};
  if (list[0].kind == ptx::Operand::Kind::kVector) list = st.operands[1].elements;
  if (list.size() != in.vec) dec.fail("vector length does not match");
  std::vector<Operand> values;
  for (const ptx::Operand& e : list) values.push_back(dec.source(e, in.type));
  build.form.value = static_cast<i32>(dec.program().pool.size());
  for (const Operand& v : values) build.add(v);
  in.fn = exec_async_value;
  lower_granule(dec, in);
  build.finish(in);
}

}  // namespace vgpu::ops
