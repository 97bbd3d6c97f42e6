#pragma once

namespace qkv::ptx {

// sin.approx.ftz.f32 and cos.approx.ftz.f32 (PTX ISA 9.7.3.18, 9.7.3.19; any sm): within 2^-20.5 of
// sin x and cos x for |x| <= pi; cos 0 = 1 exactly, sin of +-0 is +-0; subnormal x is 0.
__device__ inline float sin_approx_ftz(float x) {
  float y;
  asm("sin.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float cos_approx_ftz(float x) {
  float y;
  asm("cos.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace qkv::ptx
