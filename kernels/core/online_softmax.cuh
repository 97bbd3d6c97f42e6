// The state of a softmax over scores that arrive piece by piece. Shared by the kernels, by what
// merges their parts and by the unit tests; the scores are in units of log2: s = log2(e) * S.
#pragma once

#include <cmath>

#include "kernels/host_device.h"
#include "kernels/ptx/ex2.h"

namespace qkv::kernels {

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

// Invariant after any number of scores: m = max s, l = sum 2^(s - m); m = -inf and l = 0 while
// there is none above -inf. A NaN score leaves m and makes l NaN for good; so does a score of +inf.
struct OnlineSoftmax {
  float m = -INFINITY;
  float l = 0;

  // Raises m to s_max, the maximum of the scores to come, if that is larger. l is rescaled here;
  // the caller multiplies what else was summed up so far (O) by the result, 2^(m_old - m).
  QKV_HOST_DEVICE float raise(float s_max) {
    const float m_old = m;
    m = fmaxf(m, s_max);
    const float rescale = weight(m_old);
    l *= rescale;
    return rescale;
  }

  // 2^(s - m), the weight of a score s <= m; exactly 1 at s == m. While m = -inf only scores of
  // -inf (weight 0) and NaN exist: the base 0 then avoids (-inf) - (-inf).
  QKV_HOST_DEVICE float weight(float s) const {
    return ptx::ex2_approx_ftz(s - (m == -INFINITY ? 0.0f : m));
  }

  // The same for a score factor * s, the product not rounded. With m the rounded product of the
  // largest s, the weights are off by one common factor, which l has too.
  QKV_HOST_DEVICE float weight(float s, float factor) const {
    return ptx::ex2_approx_ftz(fmaf(s, factor, m == -INFINITY ? 0.0f : -m));
  }

  // No score above -inf was seen, and no NaN.
  QKV_HOST_DEVICE bool empty() const { return l == 0; }

  // log(sum(exp(S))); -inf if empty.
  QKV_HOST_DEVICE float lse() const { return (m + log2f(l)) * kLn2; }
};

// The state after the scores of both, in this order or the other.
QKV_HOST_DEVICE inline OnlineSoftmax merge(const OnlineSoftmax& a, const OnlineSoftmax& b) {
  OnlineSoftmax ab{fmaxf(a.m, b.m), 0};
  ab.l = a.l * ab.weight(a.m) + b.l * ab.weight(b.m);
  return ab;
}

}  // namespace qkv::kernels
