#include "async/tensor_map.h"

#include <algorithm>

namespace vgpu {

u32 TensorMap::element_bytes() const {
  constexpr u8 kBytes[kDataTypes] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  return kBytes[type];
}

u32 TensorMap::box_bytes() const {
  u32 bytes = element_bytes();
  for (u32 d = 0; d < rank; ++d) bytes *= count(d);
  return bytes;
}

std::string TensorMap::encode(const Request& r, TensorMap& out) {
  const auto text = [](u64 v) { return std::to_string(v); };
  if (r.type >= kDataTypes)
    return r.type < 16 ? "packed data type " + text(r.type) + " is not supported"
                       : "there is no data type " + text(r.type);
  if (r.rank == 0 || r.rank > kMaxRank) return "rank " + text(r.rank) + " is not 1 to 5";
  if (r.interleave > 2) return "there is no interleave " + text(r.interleave);
  if (r.interleave != 0)
    return r.rank < 3 ? std::string("interleaved tensors have 3 dimensions or more")
                      : std::string("interleaved layouts are not supported");
  if (r.swizzle > 6) return "there is no swizzle " + text(r.swizzle);
  if (r.swizzle > 3) return "swizzle atoms of 32 and 64 bytes are not supported";
  if (r.promotion > 3) return "there is no L2 promotion " + text(r.promotion);
  if (r.fill > 1) return "there is no fill " + text(r.fill);
  out = TensorMap{};
  out.magic = kMagic;
  out.type = static_cast<DataType>(r.type);
  out.rank = static_cast<u8>(r.rank);
  out.swizzle_bytes = r.swizzle == 0 ? 0 : static_cast<u8>(16u << r.swizzle);
  out.fill_nan = r.fill == 1;
  out.address = r.address;
  const bool floating = r.type >= kFloat16;
  if (out.fill_nan && !floating) return "NaN fills tensors of floating-point numbers only";
  if (r.address % 16 != 0) return "the global address is no multiple of 16";
  for (u32 d = 0; d < r.rank; ++d) {
    const std::string dim = " of dimension " + text(d);
    if (r.dims[d] == 0 || r.dims[d] > u64{1} << 32)
      return "size " + text(r.dims[d]) + dim + " is not 1 to 2^32";
    if (r.box[d] == 0 || r.box[d] > 256) return "box " + text(r.box[d]) + dim + " is not 1 to 256";
    if (r.steps[d] == 0 || r.steps[d] > 8)
      return "element stride " + text(r.steps[d]) + dim + " is not 1 to 8";
    out.last[d] = static_cast<u32>(r.dims[d] - 1);
    out.box[d] = r.box[d];
    out.step[d] = d == 0 ? 1 : static_cast<u8>(r.steps[d]);
    if (d == 0) continue;
    const u64 stride = r.strides[d - 1];
    if (stride % 16 != 0 || stride >= u64{1} << 40)
      return "stride " + text(stride) + dim + " is no multiple of 16 below 2^40";
    out.stride[d - 1] = stride;
  }
  const u32 inner = r.box[0] * out.element_bytes();
  if (inner % 16 != 0) return "the box's inner " + text(inner) + " bytes are no multiple of 16";
  if (out.swizzle_bytes != 0 && inner > out.swizzle_bytes)
    return "the box's inner " + text(inner) + " bytes are more than the swizzle's " +
           text(out.swizzle_bytes);
  return "";
}

std::vector<BoxPiece> box_pieces(const TensorMap& map, const i32 (&at)[TensorMap::kMaxRank],
                                 u64 shared) {
  const u32 size = map.element_bytes();
  const u32 inner = map.box[0] * size;
  u32 rows = 1;
  for (u32 d = 1; d < map.rank; ++d) rows *= map.count(d);
  // Of the innermost dimension, the bytes [low, high) of a row are inside of the tensor.
  const i64 end = (i64{map.last[0]} + 1 - at[0]) * size;
  const i64 low = std::clamp<i64>(-i64{at[0]} * size, 0, inner);
  const i64 high = std::clamp<i64>(end, low, inner);
  std::vector<BoxPiece> out;
  for (u32 row = 0; row < rows; ++row) {
    u64 global = map.address + static_cast<u64>(i64{at[0]} * size);
    bool inside = low < high;
    u32 rest = row;
    for (u32 d = 1; d < map.rank; ++d) {
      const i64 x = i64{at[d]} + i64{rest % map.count(d)} * map.step[d];
      rest /= map.count(d);
      inside = inside && x >= 0 && x <= i64{map.last[d]};
      global += static_cast<u64>(x) * map.stride[d - 1];
    }
    const u64 to = shared + u64{row} * inner;
    const auto add = [&](i64 from, i64 until, bool copied) {
      while (from < until) {
        const u64 place = to + static_cast<u64>(from);
        const i64 limit = map.swizzle_bytes == 0 ? until : from + 16 - static_cast<i64>(place % 16);
        const i64 stop = std::min(until, limit);
        out.push_back({copied ? global + static_cast<u64>(from) : 0, map.swizzled(place),
                       static_cast<u32>(stop - from)});
        from = stop;
      }
    };
    if (!inside) {
      add(0, inner, false);
      continue;
    }
    add(0, low, false);
    add(low, high, true);
    add(high, inner, false);
  }
  return out;
}

}  // namespace vgpu
