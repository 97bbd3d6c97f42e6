// The tensor cores of sm_90a (PTX ISA 9.7.15): D += A B in fp32 by a warpgroup, with A 64 x 16 by
// rows from shared memory or registers, B 16 x N from shared memory. Asynchronous: from issue to
// wait nobody touches D, A's registers, or the operands in shared memory.
//
// With g = lane / 4 and t = 2 (lane % 4), lanes of warp w hold of rows 16 w .. 16 w + 15
//   A: columns t, t + 1 of row g, then of row g + 8, then columns t + 8, t + 9 of both
//   D: for n = 0, 8, ..: columns n + t, n + t + 1 of row g, then of row g + 8
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace qkv::ptx {

// The descriptor of a matrix in shared memory with 128-byte swizzle (9.7.15.5.1.2): panels of
// 64 16-bit elements, each a row of 128 bytes, in blocks of 8 rows. Rows run along M or N with the
// reduction inside ("K-major"), or along the reduction with M or N inside ("MN-major").
// `stride`: bytes from a block of 8 rows to the next; `leading`: from a panel to the next, of
// MN-major ones only.
__device__ constexpr uint64_t wgmma_descriptor(uint32_t leading, uint32_t stride) {
  return uint64_t{1} << 62 | uint64_t{stride / 16} << 32 | uint64_t{leading / 16} << 16;
}
__device__ inline uint64_t wgmma_at(uint64_t descriptor, uint32_t address) {
  return descriptor | (address & 0x3ffff) / 16;
}

// wgmma.fence (9.7.15.7.1): before the first wgmma, and wherever registers of the next one were
// written by other instructions.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// No instruction: what was computed into `d` so far is computed ahead of the wgmma_fence to come,
// and not moved behind it.
template <int kSize>
__device__ inline void wgmma_keep(float (&d)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// wgmma.commit_group (9.7.15.7.2): this warp's wgmmas so far are one group.
__device__ inline void wgmma_commit_group() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// wgmma.wait_group (9.7.15.7.3): all but the latest kPending groups of this warp are done. The
// compiler is told that only now `d` has their result.
template <int kPending, int kSize>
__device__ inline void wgmma_wait_group(float (&d)[kSize]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#pragma unroll
  for (int i = 0; i < kSize; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// The same for one pending group, where no accumulator is read yet.
__device__ inline void wgmma_wait_all_but_one() {
  asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
}

// Operand lists of 32 and 64 accumulators.
#define QKV_WGMMA_8(d, i)                                                                     \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define QKV_WGMMA_32(d, i) \
  QKV_WGMMA_8(d, i), QKV_WGMMA_8(d, i + 8), QKV_WGMMA_8(d, i + 16), QKV_WGMMA_8(d, i + 24)
#define QKV_WGMMA_D32                                                              \
  "{"                                                                              \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "         \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
  "}"
#define QKV_WGMMA_D64                                                                \
  "{"                                                                                \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"   \
  "}"

// wgmma.mma_async.m64n128k16 (9.7.15.5.2), A and B K-major in shared memory. Without kAdd D is not
// read.
template <class T, bool kAdd>
__device__ inline void wgmma_m64n128k16(float (&d)[64], uint64_t a, uint64_t b) {
  if constexpr (std::is_same_v<T, __half>)
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " QKV_WGMMA_D64
                 ", %64, %65, %66, 1, 1, 0, 0;"
                 : QKV_WGMMA_32(d, 0), QKV_WGMMA_32(d, 32)
                 : "l"(a), "l"(b), "n"(kAdd));
  else
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " QKV_WGMMA_D64
                 ", %64, %65, %66, 1, 1, 0, 0;"
                 : QKV_WGMMA_32(d, 0), QKV_WGMMA_32(d, 32)
                 : "l"(a), "l"(b), "n"(kAdd));
}

// wgmma.mma_async.m64n64k16 (9.7.15.5.2), A and B K-major in shared memory. Without kAdd D is not
// read.
template <class T, bool kAdd>
__device__ inline void wgmma_m64n64k16(float (&d)[64], uint64_t a, uint64_t b) {
  if constexpr (std::is_same_v<T, __half>)
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " QKV_WGMMA_D32
                 ", %32, %33, %34, 1, 1, 0, 0;"
                 : QKV_WGMMA_32(d, 0)
                 : "l"(a), "l"(b), "n"(kAdd));
  else
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " QKV_WGMMA_D32
                 ", %32, %33, %34, 1, 1, 0, 0;"
                 : QKV_WGMMA_32(d, 0)
                 : "l"(a), "l"(b), "n"(kAdd));
}

// The same with A in registers and B MN-major; D is not read where `add` is 0.
template <class T>
__device__ inline void wgmma_m64n128k16(float (&d)[64], const uint32_t (&a)[4], uint64_t b,
                                        int add) {
  if constexpr (std::is_same_v<T, __half>)
    asm volatile(
        "{\n"
        ".reg .pred add;\n"
        "setp.ne.s32 add, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " QKV_WGMMA_D64
        ", {%64, %65, %66, %67}, %68, add, 1, 1, 1;\n"
        "}"
        : QKV_WGMMA_32(d, 0), QKV_WGMMA_32(d, 32)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
  else
    asm volatile(
        "{\n"
        ".reg .pred add;\n"
        "setp.ne.s32 add, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " QKV_WGMMA_D64
        ", {%64, %65, %66, %67}, %68, add, 1, 1, 1;\n"
        "}"
        : QKV_WGMMA_32(d, 0), QKV_WGMMA_32(d, 32)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

#undef QKV_WGMMA_8
#undef QKV_WGMMA_32
#undef QKV_WGMMA_D32
#undef QKV_WGMMA_D64

}  // namespace qkv::ptx
