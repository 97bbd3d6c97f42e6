// The middle of the unfused CPU baseline.
#pragma once

#include <cstdint>

namespace qkv::bench {

// Rows of S start on multiples of this many floats.
inline constexpr int64_t kRowAlignment = 16;

// s[0 .. visible) = e^(s - max), s[visible .. width) = 0; returns the sum of the first. `s` is
// 64-byte aligned and ends at a multiple of kRowAlignment. No score above -inf: all 0, and so is
// the sum.
float row_softmax(float* s, int64_t visible, int64_t width);

}  // namespace qkv::bench
