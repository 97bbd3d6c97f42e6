#pragma once

#include <cstdint>

namespace qkv::ptx {

// ld.shared.v2.f32 (PTX ISA 9.7.9.8): 8 bytes at an 8-byte aligned shared address. Volatile, so
// that ptxas does not load early, ahead of the products before it, and hold results in registers.
__device__ inline void ld_shared_v2(float (&x)[2], uint32_t from) {
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x[0]), "=f"(x[1]) : "r"(from) : "memory");
}

}  // namespace qkv::ptx
