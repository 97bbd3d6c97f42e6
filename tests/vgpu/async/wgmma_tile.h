// The arithmetic of wgmma: operands from shared memory by their descriptors, and one warp's rows of
// the product. PTX ISA 9.0 section 9.7.15.5.1.
//
// A warp holds 16 rows of D, A times B with K = two units of 16 bytes. The product is laid out as
// the registers of D are: eight lanes beside each other hold rows g and g + 1 and the columns
// p, p + 2, p + 4, p + 6 of a block of eight. Within a block of columns, B therefore has the even
// ones first.
#pragma once

#include <bitset>
#include <vector>

#include "common/types.h"
#include "ptx/ast.h"

namespace vgpu {

// PTX ISA 9.0 section 9.7.15.5.1.2.2: the matrix descriptor.
struct MatrixDescriptor {
  explicit MatrixDescriptor(u64 raw);
  u32 start, leading, stride;  // bytes
  u32 base_offset;
  u32 swizzle;  // bytes of a row of the swizzle pattern; 16: not swizzled

  // Where the byte at `linear` of the unswizzled layout is: bits 4..6 of the address are mixed with
  // bits 7..9, counted from the start of the pattern.
  u32 swizzled(u32 linear) const {
    return linear ^ ((((linear >> 7) - base_offset) & (swizzle / 16 - 1)) << 4);
  }
};

// Shared addresses of the 16-byte units of `rows` rows of A (or columns of B) from `first` on.
// K-major: unit 2 * r + c holds the c-th half of K of row r. MN-major: unit 16 * j + k holds
// element k of rows 8 * j to 8 * j + 7.
void unit_addresses(const MatrixDescriptor& d, bool mn_major, u32 first, u32 rows,
                    std::vector<u32>& out);

// Elements of one 16-byte unit as numbers; returns how many. K of a wgmma is twice that.
u32 elements_per_unit(ptx::Type type);
void unit_to_floats(ptx::Type type, const u8* unit, float* out);

// How the units of an operand become numbers.
struct Reading {
  ptx::Type type = ptx::Type::kNone;
  bool mn_major = false, negated = false;
  bool operator==(const Reading&) const = default;
};
// Columns of B, ready for `multiply`: [block of 8 columns][k][parity][4].
struct TileB {
  const void* place = nullptr;  // where it was, a key
  Reading reading;
  std::vector<u8> raw;  // the units that `values` was made of
  std::vector<float> values;
  std::bitset<256> undefined;  // columns
  void build(const Reading& new_reading, const std::vector<u8>& new_raw);
};
// Sixteen rows of A: [four rows][k][row].
struct TileA {
  u32 k = 0;
  std::vector<float> values;
  u32 undefined = 0;  // rows
  void build(const Reading& reading, const std::vector<u8>& raw);
};

// out[register][lane] of an f32 accumulator: register 4 * j + 2 * h + p. Products are exact (an
// element has 11 bits of significand at most), their sum is rounded to f32 after each one, in
// ascending k. So are the sums of fp8, for which devices keep fewer bits. Integer sums are exact.
void multiply(const TileA& a, const TileB& b, std::vector<float>& out);

// The same, onto what `out` holds, added as a device does. `half`: of an f16 accumulator.
struct TensorSum;
void multiply_onto(const TensorSum& how, const TileA& a, const TileB& b, ptx::Type type_a,
                   bool half, std::vector<float>& out);

// One register of an f32 accumulator: the product, plus what it holds when it adds.
void accumulate(const float* product, float* d, bool adds);

}  // namespace vgpu
