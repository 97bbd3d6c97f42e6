// A tile of 16- or 32-bit elements in shared memory as tensor-core kernels want it: rows of kDim
// elements, 16-byte chunks exchanged within each 128 bytes by the row's low bits. Eight rows of one
// column of chunks then lie on different banks, for ldmatrix as for copies along a row.
#pragma once

#include <cstdint>

#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

template <class T, int kRows, int kDim, int kThreads>
struct SwizzledTile {
  static constexpr int kElements = 16 / sizeof(T);  // of a chunk
  static constexpr int kChunks = kDim / kElements;  // of a row
  static constexpr int kBytes = kRows * kChunks * 16;
  static_assert((sizeof(T) == 2 || sizeof(T) == 4) && kChunks % 8 == 0);

  uint32_t base;  // shared address, 128-byte aligned

  // The address of element (row, kElements chunk).
  __device__ uint32_t at(int row, int chunk) const {
    return base + static_cast<uint32_t>((row * kChunks + (chunk ^ (row & 7))) * 16);
  }

  // The address `chunks`, an even number, to the right of an even chunk's or its neighbour's in the
  // first 128 bytes of a row.
  static __device__ uint32_t right_of(uint32_t address, int chunks) {
    return (address ^ static_cast<uint32_t>(chunks % 8 * 16)) + chunks / 8 * 128;
  }

  // Starts copying, all threads together, g[0 .. rows)[0 .. dim) into the tile, and 0 beyond; dim
  // is a multiple of kElements. What lies beyond is not read.
  __device__ void copy(const T* g, int64_t g_row, int rows, int dim) const {
    constexpr int kStep = kThreads / kChunks;
    static_assert(kThreads % kChunks == 0 && kRows % kStep == 0);
    // Opaque: a thread's place is worked out anew for each tile, not kept in registers.
    const int thread = ptx::opaque(static_cast<int>(threadIdx.x));
    const int chunk = thread % kChunks, row0 = thread / kChunks;
    const bool in_dim = chunk * kElements < dim;
    const T* from = g + row0 * g_row + chunk * kElements;
#pragma unroll
    for (int row = 0; row < kRows; row += kStep, from += kStep * g_row) {
      const bool inside = in_dim && row0 + row < rows;
      ptx::cp_async_16(at(row0 + row, chunk), from, inside ? 16 : 0);
    }
  }

  // The same for rows anywhere: row r begins at address(r), which must be sound for r < rows.
  template <class Address>
  __device__ void copy_rows(Address&& address, int rows, int dim) const {
    constexpr int kStep = kThreads / kChunks;
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int row0 = static_cast<int>(threadIdx.x) / kChunks;
#pragma unroll
    for (int n = 0; n < kRows; n += kStep) {
      const int row = row0 + n;
      const bool inside = chunk * 8 < dim && row < rows;
      const T* from = address(row < rows ? row : 0) + (inside ? chunk * 8 : 0);
      ptx::cp_async_16(at(row, chunk), from, inside ? 16 : 0);
    }
  }
};

}  // namespace qkv::kernels
