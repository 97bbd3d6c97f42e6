// wgmma (ptx/wgmma.h) with both operands in shared memory, A K-major and B MN-major, added to D.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace qkv::ptx {

// Operand lists of up to 128 accumulators.
#define QKV_WGMMA_8(d, i)                                                                     \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define QKV_WGMMA_32(d, i) \
  QKV_WGMMA_8(d, i), QKV_WGMMA_8(d, i + 8), QKV_WGMMA_8(d, i + 16), QKV_WGMMA_8(d, i + 24)
#define QKV_WGMMA_QUARTER0                                                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define QKV_WGMMA_QUARTER1                                                           \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define QKV_WGMMA_QUARTER2                                                           \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define QKV_WGMMA_QUARTER3                                                                       \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define QKV_WGMMA_OPERANDS1 QKV_WGMMA_32(d, 0)
#define QKV_WGMMA_OPERANDS2 QKV_WGMMA_32(d, 0), QKV_WGMMA_32(d, 32)
#define QKV_WGMMA_OPERANDS3 QKV_WGMMA_32(d, 0), QKV_WGMMA_32(d, 32), QKV_WGMMA_32(d, 64)
#define QKV_WGMMA_OPERANDS4 \
  QKV_WGMMA_32(d, 0), QKV_WGMMA_32(d, 32), QKV_WGMMA_32(d, 64), QKV_WGMMA_32(d, 96)

// wgmma.mma_async.m64nNk16 (9.7.15.5.2), N = kN: of `d` the first kN / 2 are used.
template <class T, int kN>
__device__ inline void wgmma_m64k16_mn(float (&d)[128], uint64_t a, uint64_t b);

#define QKV_WGMMA(n, list, operands, a, b)                                                   \
  template <>                                                                                \
  __device__ inline void wgmma_m64k16_mn<__half, n>(float(&d)[128], uint64_t a_at,           \
                                                    uint64_t b_at) {                         \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 {" list "}, %" #a   \
                 ", %" #b ", 1, 1, 1, 0, 1;"                                                 \
                 : operands                                                                  \
                 : "l"(a_at), "l"(b_at));                                                    \
  }                                                                                          \
  template <>                                                                                \
  __device__ inline void wgmma_m64k16_mn<__nv_bfloat16, n>(float(&d)[128], uint64_t a_at,    \
                                                           uint64_t b_at) {                  \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" list "}, %" #a \
                 ", %" #b ", 1, 1, 1, 0, 1;"                                                 \
                 : operands                                                                  \
                 : "l"(a_at), "l"(b_at));                                                    \
  }

QKV_WGMMA(64, QKV_WGMMA_QUARTER0, QKV_WGMMA_OPERANDS1, 32, 33)
QKV_WGMMA(128, QKV_WGMMA_QUARTER0 ", " QKV_WGMMA_QUARTER1, QKV_WGMMA_OPERANDS2, 64, 65)
QKV_WGMMA(192, QKV_WGMMA_QUARTER0 ", " QKV_WGMMA_QUARTER1 ", " QKV_WGMMA_QUARTER2,
          QKV_WGMMA_OPERANDS3, 96, 97)
QKV_WGMMA(256,
          QKV_WGMMA_QUARTER0 ", " QKV_WGMMA_QUARTER1 ", " QKV_WGMMA_QUARTER2
                             ", " QKV_WGMMA_QUARTER3,
          QKV_WGMMA_OPERANDS4, 128, 129)

#undef QKV_WGMMA
#undef QKV_WGMMA_8
#undef QKV_WGMMA_32
#undef QKV_WGMMA_QUARTER0
#undef QKV_WGMMA_QUARTER1
#undef QKV_WGMMA_QUARTER2
#undef QKV_WGMMA_QUARTER3
#undef QKV_WGMMA_OPERANDS1
#undef QKV_WGMMA_OPERANDS2
#undef QKV_WGMMA_OPERANDS3
#undef QKV_WGMMA_OPERANDS4

}  // namespace qkv::ptx
