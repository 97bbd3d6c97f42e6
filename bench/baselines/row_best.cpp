#include "bench/baselines/row_best.h"

#include <algorithm>

#include "host/core/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/baselines/row_best.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "host/core/cpu/dispatch.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// The next of `end` scores from `at` on that is above the bar; `end` if none is.
int64_t NextAbove(const float* HWY_RESTRICT s, int64_t at, int64_t end, float bar) {
  const hn::ScalableTag<float> d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const auto bars = hn::Set(d, bar);
  while (at + 4 * step <= end) {
    auto above = hn::Gt(hn::LoadU(d, s + at), bars);
    for (int n = 1; n < 4; ++n)
      above = hn::Or(above, hn::Gt(hn::LoadU(d, s + at + n * step), bars));
    if (!hn::AllFalse(d, above)) break;
    at += 4 * step;
  }
  while (at < end && !(s[at] > bar)) ++at;
  return at;
}

}  // namespace qkv::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qkv::bench {

HWY_EXPORT(NextAbove);

int64_t row_best(const float* s, int64_t count, int64_t most, Ranked* best) {
  int64_t found = 0;
  const auto insert = [&](int64_t key) {
    if (found < most) ++found;
    int64_t to = found - 1;
    for (; to > 0 && best[to - 1].score < s[key]; --to) best[to] = best[to - 1];
    best[to] = {s[key], key};
  };
  const int64_t first = std::min(count, most);
  for (int64_t key = 0; key < first; ++key) insert(key);
  for (int64_t key = first; first > 0;) {
    key = HWY_DYNAMIC_DISPATCH(NextAbove)(s, key, count, best[most - 1].score);
    if (key == count) break;
    insert(key++);
  }
  return found;
}

}  // namespace qkv::bench
#endif
