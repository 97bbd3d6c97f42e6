#pragma once

namespace qkv::ptx {

// Returns x, of which the compiler then knows nothing. What is computed from it cannot be computed
// ahead of a loop and held in registers across it. No instruction.
__device__ inline int opaque(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

}  // namespace qkv::ptx
