#pragma once

namespace qkv::ptx {

// min.NaN.f32 (PTX ISA 9.7.3.10; sm_80): NaN if one of them is.
__device__ inline float min_nan(float a, float b) {
  float y;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}

}  // namespace qkv::ptx
