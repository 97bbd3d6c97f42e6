// The two forms of rational.h in device code.
#pragma once

#include <cmath>

#include "kernels/attention/simt_additive/rational.h"
#include "kernels/ptx/ex2.h"
#include "kernels/ptx/rcp.h"

namespace qkv::kernels {

template <bool kFine>
struct Fractions {
  // e^(2 x) of an element of q or k.
  static __device__ float feature(float x) {
    if constexpr (kFine) return exp_of_double(x);
    return ptx::ex2_approx_ftz(x * kRationalExponent);
  }

  // What a head's weights come to: the unit in which they are taken; coarse, their sum.
  static __device__ float with_weight(float sum, float w) {
    if constexpr (kFine) return fmaxf(sum, fabsf(w));
    return sum + w;
  }
  static __device__ float of_weights(float sum) {
    if constexpr (kFine) return weight_unit(sum);
    return sum;
  }

  // A weight as numerators have it.
  static __device__ float weight(float w, float of_weights) {
    if constexpr (kFine) return w * inverse_of_unit(of_weights);
    return -2 * w;
  }

  // Features of four dims of a key.
  struct Key {
    float4 e;
    float4 we;  // the coarse form does not read it

    Key() = default;
    __device__ Key(float4 e, float4 w)
        : e(e), we(make_float4(w.x * e.x, w.y * e.y, w.z * e.z, w.w * e.w)) {}
  };

  // s and the four fractions of a query and a key.
  static __device__ float add(float s, float4 q, const Key& k, float4 w) {
    s = add(s, numerator(q.x, k.we.x, w.x), fmaf(q.x, k.e.x, 1), numerator(q.y, k.we.y, w.y),
            fmaf(q.y, k.e.y, 1));
    return add(s, numerator(q.z, k.we.z, w.z), fmaf(q.z, k.e.z, 1), numerator(q.w, k.we.w, w.w),
               fmaf(q.w, k.e.w, 1));
  }

  // first() does not read what weights come to.
  static constexpr bool kReadsWeightsLater = kFine;

  // To which fractions are added, and w . tanh of what they then are.
  static __device__ float first(float of_weights) { return kFine ? 0 : of_weights; }
  static __device__ float score(float s, float of_weights) { return kFine ? s * of_weights : s; }

 private:
  static __device__ float numerator(float q, float wk, float w) {
    if constexpr (kFine) return fmaf(q, wk, -w);
    return w;
  }

  // s + n_0 / d_0 + n_1 / d_1.
  static __device__ float add(float s, float n0, float d0, float n1, float d1) {
    return fmaf(fmaf(n1, d0, n0 * d1), ptx::rcp_approx_ftz(d0 * d1), s);
  }
};

}  // namespace qkv::kernels
