// The virtual GPU's tensor map: the 128 bytes that cuTensorMapEncodeTiled fills and the tensor
// forms of bulk copies read. PTX ISA 9.0 section 5.5 (tensors).
#pragma once

#include <string>
#include <vector>

#include "common/types.h"

namespace vgpu {

struct TensorMap {
  // The numbers of CUtensorMapDataType.
  enum DataType : u8 {
    kUint8,
    kUint16,
    kUint32,
    kInt32,
    kUint64,
    kInt64,
    kFloat16,
    kFloat32,
    kFloat64,
    kBfloat16,
    kFloat32Ftz,
    kTfloat32,
    kTfloat32Ftz,
    kDataTypes
  };
  static constexpr u32 kMagic = 0x70616d74;  // "tmap"
  static constexpr u32 kMaxRank = 5;

  u32 magic = 0;
  u8 rank = 0;
  DataType type = kUint8;
  u8 swizzle_bytes = 0;  // span of the pattern: 0, 32, 64 or 128
  bool fill_nan = false;
  u64 address = 0;
  u32 last[kMaxRank] = {};        // size - 1 of each dimension, innermost first
  u32 box[kMaxRank] = {};         // elements
  u8 step[kMaxRank] = {};         // elements; 1 in the innermost dimension
  u64 stride[kMaxRank - 1] = {};  // bytes, of the dimensions but the innermost

  u32 element_bytes() const;
  // Elements that a copy moves along a dimension.
  u32 count(u32 dim) const { return (box[dim] + step[dim] - 1) / step[dim]; }
  u32 box_bytes() const;
  // Where a byte of the box lands: the pattern exchanges 16-byte pieces within each 128 bytes of
  // shared memory, by the address's own bits. PTX ISA 9.0 section 5.5.7.
  u64 swizzled(u64 address) const {
    const u64 mask = swizzle_bytes / 16u == 0 ? 0 : swizzle_bytes / 16u - 1;
    return address ^ (address >> 7 & mask) << 4;
  }

  // The arguments of cuTensorMapEncodeTiled. Returns what is wrong with them, or an empty string.
  struct Request {
    u32 type, rank;
    u64 address;
    const u64 *dims, *strides;
    const u32 *box, *steps;
    u32 interleave, swizzle, promotion, fill;
  };
  static std::string encode(const Request& request, TensorMap& out);
};
static_assert(sizeof(TensorMap) <= 128);

// One run of bytes of a box that is contiguous in global and in shared memory.
struct BoxPiece {
  u64 global = 0;  // 0: outside of the tensor
  u64 shared = 0;  // address, swizzled
  u32 bytes = 0;
};
// The pieces of the box at these coordinates, whose first byte goes to `shared`.
std::vector<BoxPiece> box_pieces(const TensorMap& map, const i32 (&at)[TensorMap::kMaxRank],
                                 u64 shared);

}  // namespace vgpu
