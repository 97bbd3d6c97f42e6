#include "bench/baselines/tanh_scores.h"

#include "host/core/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/baselines/tanh_scores.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "host/core/cpu/dispatch.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void TanhScores(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k,
                const float* HWY_RESTRICT w, int64_t rows, int64_t keys, int64_t dim, float scale,
                float* HWY_RESTRICT s, int64_t pitch) {
  const hn::ScalableTag<float> d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < keys; ++j) {
      const float *from = q + r * dim, *key = k + j * dim;
      auto sum = hn::Zero(d);
      int64_t c = 0;
      for (; c + step <= dim; c += step) {
        const auto x = hn::Add(hn::LoadU(d, from + c), hn::LoadU(d, key + c));
        sum = hn::MulAdd(hn::LoadU(d, w + c), hn::Tanh(d, x), sum);
      }
      if (c < dim) {
        const auto left = hn::FirstN(d, static_cast<size_t>(dim - c));
        const auto x = hn::Add(hn::MaskedLoad(left, d, from + c), hn::MaskedLoad(left, d, key + c));
        sum = hn::MulAdd(hn::MaskedLoad(left, d, w + c), hn::Tanh(d, x), sum);
      }
      s[r * pitch + j] = scale * hn::GetLane(hn::SumOfLanes(d, sum));
    }
  }
}

}  // namespace qkv::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qkv::bench {

HWY_EXPORT(TanhScores);

void tanh_scores(const float* q, const float* k, const float* w, int64_t rows, int64_t keys,
                 int64_t dim, float scale, float* s, int64_t pitch) {
  HWY_DYNAMIC_DISPATCH(TanhScores)(q, k, w, rows, keys, dim, scale, s, pitch);
}

}  // namespace qkv::bench
#endif
