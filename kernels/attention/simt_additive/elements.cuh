// Tiles of Q, K and V on their way from memory to shared memory, as features or as they are. A
// thread has 4 adjacent columns of every few rows, whatever their alignment; lanes run along a row.
#pragma once

#include <cstdint>

#include "kernels/attention/simt_additive/policy.h"
#include "kernels/attention/simt_additive/rational.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/numeric.cuh"

namespace qkv::kernels {

__device__ inline float4& float4_at(float* s) { return *reinterpret_cast<float4*>(s); }
__device__ inline float4 float4_at(const float* s) { return *reinterpret_cast<const float4*>(s); }

// A thread's part of kRows rows of kColumns elements of T.
template <class T, int kRows, int kColumns>
struct OwnElements {
  static constexpr int kLanes = kColumns / 4;  // that share a row
  static constexpr int kStep = kSimtAdditiveThreads / kLanes;
  static constexpr int kSteps = kRows / kStep;
  static_assert(kRows % kStep == 0);
  struct alignas(4 * sizeof(T)) Four {
    T x[4];
  };

  Four own[kSteps];

  static __device__ int row() { return static_cast<int>(threadIdx.x) / kLanes; }
  static __device__ int column() { return static_cast<int>(threadIdx.x) % kLanes * 4; }

  // From g[0 .. rows)[0 .. columns), 0 beyond. `aligned`: 4 elements at a time can be read.
  __device__ void load(const T* g, int64_t g_row, int rows, int columns, bool aligned) {
    columns -= column();
    rows = columns > 0 ? rows - row() : 0;
    g += row() * g_row + column();
#pragma unroll
    for (int n = 0; n < kSteps; ++n) own[n] = {};
    if (aligned) {
#pragma unroll
      for (int n = 0; n < kSteps; ++n)
        if (n * kStep < rows) own[n] = *reinterpret_cast<const Four*>(g + n * kStep * g_row);
    } else {
#pragma unroll
      for (int n = 0; n < kSteps; ++n)
#pragma unroll
        for (int x = 0; x < 4; ++x)
          if (n * kStep < rows && x < columns) own[n].x[x] = g[n * kStep * g_row + x];
    }
  }

  // s[:][:] = of(element), of the block's threads together.
  template <int kPitch, class Of>
  __device__ void store(float* s, Of&& of) const {
    float* const to = s + row() * kPitch + column();
#pragma unroll
    for (int n = 0; n < kSteps; ++n) {
      const T(&x)[4] = own[n].x;
      float4_at(to + n * kStep * kPitch) = make_float4(of(x[0]), of(x[1]), of(x[2]), of(x[3]));
    }
  }

  // s[:][:] = e^(2 x). Sets the bits of rows with an element out of range; NaN is not.
  template <class Form, int kPitch>
  __device__ void store_features(float* s, uint32_t* out) const {
    bool beyond = false;
    store<kPitch>(s, [&](T element) {
      const float x = to_float(element);
      beyond = beyond || fabsf(x) > kRationalRange;
      return Form::feature(x);
    });
    if (!beyond) return;
    uint32_t steps = 0;
#pragma unroll
    for (int n = 0; n < kSteps; ++n)
#pragma unroll
      for (int x = 0; x < 4; ++x)
        if (fabsf(to_float(own[n].x[x])) > kRationalRange) steps |= 1u << n;
#pragma unroll 1
    for (int r = row(); steps != 0; steps >>= 1, r += kStep)
      if ((steps & 1) != 0) atomicOr(out + r / 32, 1u << r % 32);
  }
};

}  // namespace qkv::kernels
