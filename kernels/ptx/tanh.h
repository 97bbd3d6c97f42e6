#pragma once

namespace qkv::ptx {

// tanh.approx.f32 (PTX ISA 9.7.3.22; sm_75): within 2^-11 |tanh x| of tanh x, +-1 at +-inf, NaN at
// NaN; subnormal x are kept.
__device__ inline float tanh_approx(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace qkv::ptx
