#include "bench/baselines/row_softmax.h"

#include <limits>

#include "host/core/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/baselines/row_softmax.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "host/core/cpu/dispatch.h"
#include "host/core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::Exp;
using cpu::HWY_NAMESPACE::F32;

float RowSoftmax(float* HWY_RESTRICT s, int64_t visible, int64_t width) {
  static_assert(kRowAlignment % cpu::kLanes == 0);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const int64_t end = cpu::round_up(visible, step);
  for (int64_t j = visible; j < end; ++j) s[j] = -kInf;

  auto maxima = hn::Set(d, -kInf);
  for (int64_t j = 0; j < end; j += step) maxima = hn::Max(maxima, hn::Load(d, s + j));
  const float max = hn::GetLane(hn::MaxOfLanes(d, maxima));

  const auto shift = hn::Set(d, max == -kInf ? 0.0f : max);  // avoids (-inf) - (-inf)
  auto sums = hn::Zero(d);
  for (int64_t j = 0; j < end; j += step) {
    const auto p = Exp(d, hn::Sub(hn::Load(d, s + j), shift));
    hn::Store(p, d, s + j);
    sums = hn::Add(sums, p);
  }
  for (int64_t j = end; j < width; ++j) s[j] = 0;
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

}  // namespace qkv::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qkv::bench {

HWY_EXPORT(RowSoftmax);

float row_softmax(float* s, int64_t visible, int64_t width) {
  return HWY_DYNAMIC_DISPATCH(RowSoftmax)(s, visible, width);
}

}  // namespace qkv::bench
#endif
