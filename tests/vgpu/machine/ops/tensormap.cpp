// Tensor maps in memory: one field replaced, or all copied from shared to global memory. PTX
// ISA 9.0 sections 9.7.9.26 (tensormap.replace) and 9.7.13.16 (tensormap.cp_fenceproxy).
#include <iterator>

#include "async/tensor_map.h"
#include "common/error.h"
#include "machine/access.h"
#include "machine/cta.h"
#include "machine/ops/ops.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

enum : u8 {
  kAddress,
  kRank,
  kBoxDim,
  kGlobalDim,
  kGlobalStride,
  kElementStride,
  kElemtype,
  kInterleave,
  kSwizzle,
  kFill
};

// The element types have other numbers here than in the driver.
constexpr u8 kElementTypes[] = {
    TensorMap::kUint8,      TensorMap::kUint16,  TensorMap::kUint32,   TensorMap::kInt32,
    TensorMap::kUint64,     TensorMap::kInt64,   TensorMap::kFloat16,  TensorMap::kFloat32,
    TensorMap::kFloat32Ftz, TensorMap::kFloat64, TensorMap::kBfloat16, TensorMap::kTfloat32,
    TensorMap::kTfloat32Ftz};

bool replace(TensorMap& map, u8 field, u32 dim, u64 v) {
  if (dim >= TensorMap::kMaxRank) return false;
  switch (field) {
    case kAddress:
      map.address = v;
      return v % 16 == 0;
    case kRank:
      map.rank = static_cast<u8>(v + 1);
      return v < TensorMap::kMaxRank;
    case kBoxDim:
      map.box[dim] = static_cast<u32>(v);
      return v >= 1 && v <= 256;
    case kGlobalDim:
      map.last[dim] = static_cast<u32>(v - 1);
      return v != 0;
    case kGlobalStride:
      if (dim >= TensorMap::kMaxRank - 1) return false;
      map.stride[dim] = v;
      return v % 16 == 0 && v < u64{1} << 40;
    case kElementStride:
      map.step[dim] = dim == 0 ? 1 : static_cast<u8>(v);
      return v >= 1 && v <= 8;
    case kElemtype:
      if (v >= std::size(kElementTypes)) return false;
      map.type = static_cast<TensorMap::DataType>(kElementTypes[v]);
      return true;
    case kInterleave:
      return v == 0;
    case kSwizzle:
      map.swizzle_bytes = v == 0 ? 0 : static_cast<u8>(16u << v);
      return v <= 3;
    default:
      map.fill_nan = v == 1;
      return v <= 1;
  }
}

// in.sub field, in.target dimension, in.b value.
void exec_replace(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  gather_addresses(w, in, m, address);
  Allocation* cache = nullptr;
  for_each_lane(m, [&](int l) {
    const Target first = locate(w, in, l, address[l], 64, true, cache);
    locate(w, in, l, address[l] + 64, 64, true, cache);
    if (first.kind == Target::Kind::kShared)
      check_race(w, in, l, first.shared_offset, 128, true, false);
    if (first.allocation != nullptr)
      check_global(w, in, l, *first.allocation, first.bit_offset, 128, true);
    TensorMap map;
    std::memcpy(static_cast<void*>(&map), first.data, sizeof map);
    if (map.magic != TensorMap::kMagic) {
      w.fault(kFaultIllegalAddress, FindingKind::kBulkMisuse, in, l, "there is no tensor map here");
    }
    const u64 v = w.value(in.b, l);
    if (!replace(map, in.sub, static_cast<u32>(in.target), v)) {
      w.fault(kFaultIllegalAddress, FindingKind::kBulkMisuse, in, l,
              "a tensor map cannot have " + std::to_string(v) + " here");
    }
    std::memcpy(first.data, &map, sizeof map);
  });
}

// in.a to global memory, in.b from shared memory. The whole warp does it together.
void exec_copy(Warp& w, const Instr& in, u32 m) {
  const int lane = std::countr_zero(m);
  Instr from = in;
  from.a = in.b;
  from.imm = static_cast<i32>(in.target);
  from.space = ptx::Space::kShared;
  u64 to_address[kLanes], from_address[kLanes];
  gather_addresses(w, in, m, to_address);
  gather_addresses(w, from, m, from_address);
  Allocation *cache = nullptr, *none = nullptr;
  for (u32 i = 0; i < 128; i += 16) {
    const Target to = locate(w, in, lane, to_address[lane] + i, 16, true, cache);
    const Target source = locate(w, from, lane, from_address[lane] + i, 16, false, none);
    check_race(w, from, lane, source.shared_offset, 16, false, false);
    if (to.allocation != nullptr)
      check_global(w, in, lane, *to.allocation, to.bit_offset, 16, true);
    std::memcpy(to.data, source.data, 16);
    mark(to, 16, undefined_mask(source, 16));
  }
}

void decode_tensormap(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kOther;
  if (mods.take("cp_fenceproxy")) {
    for (std::string_view word : {"global", "shared::cta", "tensormap::generic", "release", "sync"})
      mods.take(word);
    mods.take_one({"cta", "cluster", "gpu", "sys"});
    in.flow = mods.take("aligned") ? Flow::kAligned : Flow::kNone;
    require_operands(dec, st, 3);
    Instr from;
    from.space = ptx::Space::kShared;
    dec.address(st.operands[1], from);
    in.b = from.a;
    in.target = static_cast<u32>(static_cast<i32>(from.imm));
    in.space = ptx::Space::kGlobal;
    dec.address(st.operands[0], in);
    if (dec.constant(st.operands[2]) != 128) dec.fail("a tensor map has 128 bytes");
    in.fn = exec_copy;
    return;
  }
  mods.take("replace");
  mods.take("tile");
  const int field = mods.take_one({"global_address", "rank", "box_dim", "global_dim",
                                   "global_stride", "element_stride", "elemtype",
                                   "interleave_layout", "swizzle_mode", "fill_mode"});
  if (field < 0) dec.fail("this field is not supported");
  in.sub = static_cast<u8>(field);
  const int space = mods.take_one({"global", "shared::cta"});
  in.space = space == 0   ? ptx::Space::kGlobal
             : space == 1 ? ptx::Space::kShared
                          : ptx::Space::kGeneric;
  mods.take("b1024");
  const Type t = mods.take_type();
  const bool dimension = field >= kBoxDim && field <= kElementStride;
  require_operands(dec, st, dimension ? 3 : 2);
  dec.address(st.operands[0], in);
  if (dimension) in.target = static_cast<u32>(dec.constant(st.operands[1]));
  in.b = dec.source(st.operands.back(), t);
  in.fn = exec_replace;
}

}  // namespace

void register_tensormap(OpcodeMap& t) { t["tensormap"] = decode_tensormap; }

}  // namespace vgpu::ops
