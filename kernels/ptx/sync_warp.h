#pragma once

#include <cstdint>

namespace qkv::ptx {

// bar.warp.sync (PTX ISA 9.7.13.2) of the whole warp, with a mask of lanes that depends on x: the
// compiler cannot move it, nor volatile asm after it, before the instructions that compute x. x
// must be >= 0 or NaN, which makes the mask that of all lanes; the compiler does not know that.
__device__ inline void sync_warp_after(float x) {
  const uint32_t lanes = x < 0 ? 0 : 0xffffffffu;
  asm volatile("bar.warp.sync %0;" ::"r"(lanes) : "memory");
}

}  // namespace qkv::ptx
