// The features of series.h, in registers and in shared memory, and what a head's weights are
// multiplied by.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention/sm80_additive/series.h"
#include "kernels/core/numeric.cuh"
#include "kernels/ptx/sin_cos.h"

namespace qkv::kernels {

// Sine and cosine of (2n + 1) w x, n = 0, 1, ..., times a factor: one FFMA each for the next n.
struct Sines {
  float sin, cos;
  float sin_before, cos_before;
  float step;  // 2 cos(2 w x)

  // |x| <= kSeriesRange.
  __device__ void begin(float x, float factor) {
    const float angle = x * kSeriesFrequency;
    const float s = ptx::sin_approx_ftz(angle), c = ptx::cos_approx_ftz(angle);
    step = fmaf(-4 * s, s, 2.0f);
    sin = s * factor, cos = c * factor;
    sin_before = -sin, cos_before = cos;  // of n = -1
  }

  __device__ void advance() {
    const float s = fmaf(step, sin, -sin_before), c = fmaf(step, cos, -cos_before);
    sin_before = sin, cos_before = cos;
    sin = s, cos = c;
  }
};

// Whether the series serves x; not if x is NaN.
__device__ inline bool in_series_range(float x) { return fabsf(x) <= kSeriesRange; }

// Features of 8 dims of a block of keys in shared memory: 16 bytes of a key are its 4 dims of a
// group, {a_n cos, a_n sin} each, so that eight keys make a matrix of ldmatrix, without bank
// conflicts in either direction.
template <int kKeys>
struct FeatureChunk {
  uint32_t base;  // shared address or an offset, 16-byte aligned

  static constexpr int kHarmonicBytes = kKeys * 16;
  static constexpr int kGroupBytes = kSeriesHarmonics * kHarmonicBytes;
  static constexpr int kBytes = 2 * kGroupBytes;

  __device__ uint32_t at(int group, int key) const {
    return base + static_cast<uint32_t>(group * kGroupBytes + key * 16);
  }
};

// The exponent of the power of two that weights of a head are multiplied by; a warp's lanes hold
// them. Weights that are not finite do not count.
template <int kWeights>
__device__ inline int weight_exponent(const float (&w)[kWeights]) {
  float largest = 0;
#pragma unroll
  for (int n = 0; n < kWeights; ++n) {
    const float x = fabsf(w[n]);
    if (x < INFINITY) largest = fmaxf(largest, x);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
  return largest == 0 ? 0 : min(kSeriesWeightExponent - exponent, 126);
}

// 2^n, -126 <= n <= 127.
__device__ inline float power_of_two(int n) {
  return __uint_as_float(static_cast<uint32_t>(n + 127) << 23);
}

}  // namespace qkv::kernels
