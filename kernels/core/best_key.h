// The best key of a row: what hard selection keeps of the scores that it has seen. NaN beats every
// number, -inf beats nothing, and of equal scores the lowest key stays.
#pragma once

#include <climits>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"

namespace qkv::kernels {

inline constexpr int32_t kNoKey = INT32_MAX;

struct BestKey {
  float score;  // -inf: no key was seen but such of -inf
  int32_t key;  // kNoKey then
};

// Whether a score takes the place of one of another key, whatever the keys.
QKV_HOST_DEVICE inline bool beats(float score, float than) {
  return score > than || (score != score && than == than);
}

// The better one of two different sets of keys.
QKV_HOST_DEVICE inline BestKey better_of(BestKey a, BestKey b) {
  const bool is_tie = !beats(a.score, b.score) && !beats(b.score, a.score);
  return beats(b.score, a.score) || (is_tie && b.key < a.key) ? b : a;
}

}  // namespace qkv::kernels
