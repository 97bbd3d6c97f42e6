#pragma once

namespace qkv::ptx {

// max.NaN.f32 (PTX ISA 9.7.3.11; sm_80): NaN if one of them is.
__device__ inline float max_nan(float a, float b) {
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}

}  // namespace qkv::ptx
