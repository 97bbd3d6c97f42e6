#pragma once

#include <cstdint>

namespace qkv::ptx {

// ldmatrix.x4 (PTX ISA 9.7.14.5.15): four 8 x 8 matrices of 16-bit elements. Lanes 8 i .. 8 i + 7
// name the rows of matrix i, 16 bytes each; lane l gets elements 2 (l % 4), + 1 of row l / 4.
__device__ inline void ldmatrix_x4(uint32_t (&r)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

// The same, each matrix transposed: lane l gets elements of column l / 4.
__device__ inline void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

}  // namespace qkv::ptx
