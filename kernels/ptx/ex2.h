#pragma once

#include <cfloat>
#include <cmath>

#include "kernels/host_device.h"

namespace qkv::ptx {

// PTX ISA 9.7.3 "Floating Point Instructions": ex2.approx.ftz.f32 (PTX 1.4, any sm). 2^x within
// 2 ulp of an exact 2^x, exactly 1 at 0; results below 2^-126 are +0; ex2(-inf) = +0, ex2(+inf) =
// +inf, NaN stays NaN. The host's version keeps these properties, not the last bits.
QKV_HOST_DEVICE inline float ex2_approx_ftz(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = std::exp2(x);
  return y < FLT_MIN ? 0.0f : y;
#endif
}

}  // namespace qkv::ptx
