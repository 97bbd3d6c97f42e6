#pragma once

#include <cstdint>

namespace qkv::ptx {

// bar.warp.sync (PTX ISA 9.7.13.2) of the whole warp, once x is known: the compiler leaves what x
// is computed from in front of it. x >= 0 or NaN, which the compiler does not know.
__device__ inline void sync_warp_after(float x) {
  const uint32_t lanes = x < 0 ? 0 : 0xffffffffu;
  asm volatile("bar.warp.sync %0;" ::"r"(lanes) : "memory");
}

}  // namespace qkv::ptx
