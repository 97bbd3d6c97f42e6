// A tile of 16- or 32-bit elements in shared memory with XOR swizzle: rows of kDim elements, whose
// 16-byte chunks are permuted within each 128 bytes: chunk c of row r lies at c ^ (r % 8). Eight
// rows of one column of chunks, which ldmatrix reads together, then lie on different banks, and so
// do the chunks that are copied along a row.
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

  // The address of the chunk that is `chunks`, an even number, to the right of the one at
  // `address`, which is chunk 0 or 1 of a row. Adding to an address does not do: the swizzle
  // permutes chunks.
  static __device__ uint32_t right_of(uint32_t address, int chunks) {
    return (address ^ static_cast<uint32_t>(chunks % 8 * 16)) + chunks / 8 * 128;
  }

  // Starts copying, all threads together, g[0 .. rows)[0 .. dim) into the tile, and 0 beyond; dim
  // is a multiple of kElements. What lies beyond is not read.
  __device__ void copy(const T* g, int64_t g_row, int rows, int dim) const {
    constexpr int kStep = kThreads / kChunks;
    static_assert(kThreads % kChunks == 0 && kRows % kStep == 0);
    // Opaque: the thread's chunk is computed again for each tile instead of held in registers
    // across the kernel's loop.
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

  // The same where rows are no constant stride apart: row r begins at address(r), which is only
  // asked for r < rows and r = 0.
  template <class Address>
  __device__ void copy_rows(Address&& address, int rows, int dim) const {
    constexpr int kStep = kThreads / kChunks;
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int row0 = static_cast<int>(threadIdx.x) / kChunks;
#pragma unroll
    for (int n = 0; n < kRows; n += kStep) {
      const int row = row0 + n;
      const bool inside = chunk * kElements < dim && row < rows;
      const T* from = address(row < rows ? row : 0) + (inside ? chunk * kElements : 0);
      ptx::cp_async_16(at(row, chunk), from, inside ? 16 : 0);
    }
  }
};

}  // namespace qkv::kernels
