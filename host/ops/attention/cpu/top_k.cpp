#include "host/ops/attention/cpu/top_k.h"

#include <limits>

#include "host/core/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/ops/attention/cpu/top_k.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "host/core/cpu/dispatch.h"
#include "host/core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::cpu::HWY_NAMESPACE {

// One row of a tile against its bar.
class TopRow {
 public:
  HWY_INLINE TopRow(const ScoreTile& tile, int64_t first_key, const TopK& top, int64_t r)
      : top_(top), r_(r), s_(tile.s + r * tile.width), scale_(tile.scale), first_(first_key) {}

  // Keys [begin, end) of the tile.
  HWY_INLINE void Scan(int64_t begin, int64_t end) {
    const F32 d;
    const auto step = static_cast<int64_t>(hn::Lanes(d));
    const V32 factor = hn::Set(d, scale_);
    int64_t j = begin;
    for (; j < end && j % step != 0; ++j) Offer(j);
    for (; j + 4 * step <= end; j += 4 * step) {
      const V32 bar = hn::Set(d, top_.bar[r_]);
      const auto passes = [&](int64_t at) {
        return hn::Not(hn::Le(hn::Mul(hn::Load(d, s_ + at), factor), bar));  // greater, or NaN
      };
      const auto a = passes(j), b = passes(j + step), c = passes(j + 2 * step);
      const auto e = passes(j + 3 * step);
      if (HWY_LIKELY(hn::AllFalse(d, hn::Or(hn::Or(a, b), hn::Or(c, e))))) continue;
      if (!hn::AllFalse(d, a)) OfferAll(j, step);
      if (!hn::AllFalse(d, b)) OfferAll(j + step, step);
      if (!hn::AllFalse(d, c)) OfferAll(j + 2 * step, step);
      if (!hn::AllFalse(d, e)) OfferAll(j + 3 * step, step);
    }
    for (; j < end; ++j) Offer(j);
  }

 private:
  HWY_INLINE void Offer(int64_t j) {
    const float score = s_[j] * scale_;
    if (score <= top_.bar[r_] || std::isnan(top_.bar[r_])) return;
    top_.keep(r_, {score, first_ + j});
  }
  HWY_INLINE void OfferAll(int64_t j, int64_t count) {
    for (int64_t n = 0; n < count; ++n) Offer(j + n);
  }

  const TopK& top_;
  const int64_t r_;
  const float* const s_;
  const float scale_;
  const int64_t first_;
};

void RunningTopK(const ScoreTile& tile, int64_t first_key, const TopK& top) {
  for (int64_t r = 0; r < tile.rows; ++r) {
    if (std::isnan(top.bar[r])) continue;
    TopRow row(tile, first_key, top, r);
    row.Scan(tile.begin == nullptr ? 0 : tile.begin[r],
             tile.end == nullptr ? tile.width : tile.end[r]);
  }
}

}  // namespace qkv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qkv::cpu {

HWY_EXPORT(RunningTopK);

void running_top_k(const ScoreTile& tile, int64_t first_key, const TopK& top) {
  HWY_DYNAMIC_DISPATCH(RunningTopK)(tile, first_key, top);
}

void TopK::clear(int64_t rows) const {
  std::fill_n(count, rows, int64_t{0});
  std::fill_n(bar, rows, -std::numeric_limits<float>::infinity());
}

void TopK::cut(int64_t r) const {
  if (count[r] < k) return;
  RankedKey* const keys = row(r);
  std::nth_element(keys, keys + k - 1, keys + count[r], better);
  count[r] = k;
  bar[r] = keys[k - 1].score;
}

void TopK::rank(int64_t r) const {
  cut(r);
  std::sort(row(r), row(r) + count[r], better);
}

TopSum weigh(const TopK& top, int64_t r, float* weights) {
  const RankedKey* const keys = top.row(r);
  TopSum out{top.count[r], 0, 0};
  if (out.count == 0) return out;
  out.m = keys[0].score;
  double l = 0;
  for (int64_t n = 0; n < out.count; ++n) {
    const float weight = std::exp(keys[n].score - out.m);
    weights[n] = weight < std::numeric_limits<float>::min() ? 0 : weight;  // NaN stays
    l += static_cast<double>(weights[n]);
  }
  out.l = static_cast<float>(l);
  return out;
}

}  // namespace qkv::cpu
#endif  // HWY_ONCE
