// How tensor cores add, bit for bit, for `vgpu-run --mma truncate`.
//
// The ISA leaves the order and the rounding of the sums of mma and wgmma open. Devices add groups
// of products and the sum so far in one go: all addends are shifted to the largest exponent among
// them, that of a product being the sum of its factors' exponents, and what falls below the last
// bit that is kept is cut off. The group's sum is cut to f32, or rounded to f16 where that is the
// type of D. Subnormal factors have the smallest exponent of their type.
//
//   device                 f16, bf16  tf32  fp8  bits kept of the fraction
//   H100                          16     8   32  25; fp8 13, and the result has 13 as well
//   A100                           8     4    -  24
//   Ada (RTX 40, L40S)             8     4   16  24; fp8 13
//
// Volta, Turing and A100 were first measured by M. Fasi, N. J. Higham, M. Mikaitis and S. Pranesh,
// "Numerical behavior of NVIDIA tensor cores", PeerJ Computer Science 7:e330 (2021). The table is
// that of F. A. Khattak and M. Mikaitis, "Accurate models of NVIDIA tensor cores",
// arXiv:2512.07004 (2025). On an H100 of ours its row for 16-bit types and tf32 gave the bits of
// 4096 of 4096 random sums of each of mma.m16n8k16, mma.m16n8k8, wgmma k16 and wgmma k8. Of wgmma
// e4m3, 1257 of 4096 differed as long as the result had 23 bits; the four of them that were kept
// have the bits of a result cut to 13 (README.md). Devices that are in no row, the T4 among ours,
// add as an H100 here.
#pragma once

#include "common/types.h"
#include "ptx/ast.h"

namespace vgpu {

enum class MmaSums : u8 {
  kExact,     // rounded once, to nearest
  kTruncate,  // as the device's tensor cores do
};

struct TensorSum {
  u32 group = 16;     // products that are added in one go, onto the sum so far
  int kept = 25;      // bits below the largest exponent of a group
  int fraction = 23;  // bits of the result's fraction, in f32
};
TensorSum tensor_sum(int capability, ptx::Type type);

// Elements as numbers, beside the powers of two of their exponents.
void tensor_elements(ptx::Type type, const float* elements, size_t count, double* values,
                     double* powers);

// Factors of four sums: a[i] times the columns b[i * step] to b[i * step + 3], i < k.
struct TensorFactors {
  const double *a, *a_powers, *b, *b_powers;
  u32 step, k;
};
// out = c + products, four columns; c and out may be the same. `half`: of an f16 accumulator.
void add_products(const TensorSum& how, const TensorFactors& f, bool half, const float* c,
                  float* out);

}  // namespace vgpu
