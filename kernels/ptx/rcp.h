#pragma once

namespace qkv::ptx {

// PTX ISA 9.7.3 "Floating Point Instructions": rcp.approx.ftz.f32 (PTX 1.4, any sm). 1 / x within
// 1 ulp; 1 / inf = +0, NaN stays NaN.
__device__ inline float rcp_approx_ftz(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace qkv::ptx
