#pragma once

#include <cstdint>

namespace qkv::ptx {

// stmatrix.x4 (PTX ISA 9.7.14.5.16): four 8 x 8 matrices of 16-bit elements to shared memory. Lanes
// 8 i .. 8 i + 7 name the rows of matrix i, 16 bytes each; lane l gives elements 2 (l % 4), + 1 of
// row l / 4.
__device__ inline void stmatrix_x4(uint32_t row, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

}  // namespace qkv::ptx
