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

// Operands of D: for the assembler (D) and for the compiler (O), 16 to 128 of them.
#define QKV_WGMMA_8(i)                                                                        \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define QKV_WGMMA_D16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define QKV_WGMMA_O16 QKV_WGMMA_8(0), QKV_WGMMA_8(8)
#define QKV_WGMMA_D24 QKV_WGMMA_D16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define QKV_WGMMA_O24 QKV_WGMMA_O16, QKV_WGMMA_8(16)
#define QKV_WGMMA_D32 QKV_WGMMA_D24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define QKV_WGMMA_O32 QKV_WGMMA_O24, QKV_WGMMA_8(24)
#define QKV_WGMMA_D40 QKV_WGMMA_D32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define QKV_WGMMA_O40 QKV_WGMMA_O32, QKV_WGMMA_8(32)
#define QKV_WGMMA_D48 QKV_WGMMA_D40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define QKV_WGMMA_O48 QKV_WGMMA_O40, QKV_WGMMA_8(40)
#define QKV_WGMMA_D56 QKV_WGMMA_D48 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define QKV_WGMMA_O56 QKV_WGMMA_O48, QKV_WGMMA_8(48)
#define QKV_WGMMA_D64 QKV_WGMMA_D56 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define QKV_WGMMA_O64 QKV_WGMMA_O56, QKV_WGMMA_8(56)
#define QKV_WGMMA_D128                                                                       \
  QKV_WGMMA_D64                                                                              \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"         \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"         \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, " \
  "%111"                                                                                     \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, "   \
  "%126, %127"
#define QKV_WGMMA_O128                                                               \
  QKV_WGMMA_O64, QKV_WGMMA_8(64), QKV_WGMMA_8(72), QKV_WGMMA_8(80), QKV_WGMMA_8(88), \
      QKV_WGMMA_8(96), QKV_WGMMA_8(104), QKV_WGMMA_8(112), QKV_WGMMA_8(120)

// For each N the operands of its N / 2 accumulators, and the names of those behind them.
#define QKV_WGMMA_ROWS(ROW)                                                          \
  ROW(32, QKV_WGMMA_D16, (QKV_WGMMA_O16), "%16", "%17", "%18", "%19", "%20", "%21")  \
  ROW(48, QKV_WGMMA_D24, (QKV_WGMMA_O24), "%24", "%25", "%26", "%27", "%28", "%29")  \
  ROW(64, QKV_WGMMA_D32, (QKV_WGMMA_O32), "%32", "%33", "%34", "%35", "%36", "%37")  \
  ROW(80, QKV_WGMMA_D40, (QKV_WGMMA_O40), "%40", "%41", "%42", "%43", "%44", "%45")  \
  ROW(96, QKV_WGMMA_D48, (QKV_WGMMA_O48), "%48", "%49", "%50", "%51", "%52", "%53")  \
  ROW(112, QKV_WGMMA_D56, (QKV_WGMMA_O56), "%56", "%57", "%58", "%59", "%60", "%61") \
  ROW(128, QKV_WGMMA_D64, (QKV_WGMMA_O64), "%64", "%65", "%66", "%67", "%68", "%69") \
  ROW(256, QKV_WGMMA_D128, (QKV_WGMMA_O128), "%128", "%129", "%130", "%131", "%132", "%133")
#define QKV_WGMMA_STRIP(...) __VA_ARGS__

// wgmma.mma_async.m64nNk16 (9.7.15.5.2), A and B K-major in shared memory, N = kN; D is the first
// N / 2 elements of d. Without kAdd it is not read.
template <class T, int kN, bool kAdd, int kSize>
__device__ inline void wgmma(float (&d)[kSize], uint64_t a, uint64_t b) {
  static_assert(kN <= 2 * kSize);
  static_assert(kN == 32 || kN == 48 || kN == 64 || kN == 80 || kN == 96 || kN == 112 ||
                kN == 128 || kN == 256);
#define QKV_WGMMA_OF_TYPE(N, TYPE, D, O, I0, I1, I2)                                           \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" D "}, " I0 \
               ", " I1 ", " I2 ", 1, 1, 0, 0;"                                                 \
               : QKV_WGMMA_STRIP O                                                             \
               : "l"(a), "l"(b), "n"(kAdd))
#define QKV_WGMMA_ROW(N, D, O, I0, I1, I2, ...)       \
  if constexpr (kN == N) {                            \
    if constexpr (std::is_same_v<T, __half>)          \
      QKV_WGMMA_OF_TYPE(N, "f16", D, O, I0, I1, I2);  \
    else                                              \
      QKV_WGMMA_OF_TYPE(N, "bf16", D, O, I0, I1, I2); \
  }
  QKV_WGMMA_ROWS(QKV_WGMMA_ROW)
#undef QKV_WGMMA_ROW
#undef QKV_WGMMA_OF_TYPE
}

// The same with A in registers and B MN-major; D is not read where `add` is 0.
template <class T, int kN, int kSize>
__device__ inline void wgmma(float (&d)[kSize], const uint32_t (&a)[4], uint64_t b, int add) {
  static_assert(kN <= 2 * kSize);
  static_assert(kN == 32 || kN == 48 || kN == 64 || kN == 80 || kN == 96 || kN == 112 ||
                kN == 128 || kN == 256);
#define QKV_WGMMA_OF_TYPE(N, TYPE, D, O, I0, I1, I2, I3, I4, I5)                                \
  asm volatile("{.reg .pred add; setp.ne.s32 add, " I5                                          \
               ", 0;"                                                                           \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" D "}, {" I0 \
               ", " I1 ", " I2 ", " I3 "}, " I4 ", add, 1, 1, 1;}"                              \
               : QKV_WGMMA_STRIP O                                                              \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add))
#define QKV_WGMMA_ROW(N, D, O, I0, I1, I2, I3, I4, I5)            \
  if constexpr (kN == N) {                                        \
    if constexpr (std::is_same_v<T, __half>)                      \
      QKV_WGMMA_OF_TYPE(N, "f16", D, O, I0, I1, I2, I3, I4, I5);  \
    else                                                          \
      QKV_WGMMA_OF_TYPE(N, "bf16", D, O, I0, I1, I2, I3, I4, I5); \
  }
  QKV_WGMMA_ROWS(QKV_WGMMA_ROW)
#undef QKV_WGMMA_ROW
#undef QKV_WGMMA_OF_TYPE
}

#undef QKV_WGMMA_8
#undef QKV_WGMMA_D16
#undef QKV_WGMMA_O16
#undef QKV_WGMMA_D24
#undef QKV_WGMMA_O24
#undef QKV_WGMMA_D32
#undef QKV_WGMMA_O32
#undef QKV_WGMMA_D40
#undef QKV_WGMMA_O40
#undef QKV_WGMMA_D48
#undef QKV_WGMMA_O48
#undef QKV_WGMMA_D56
#undef QKV_WGMMA_O56
#undef QKV_WGMMA_D64
#undef QKV_WGMMA_O64
#undef QKV_WGMMA_D128
#undef QKV_WGMMA_O128
#undef QKV_WGMMA_ROWS
#undef QKV_WGMMA_STRIP

}  // namespace qkv::ptx
