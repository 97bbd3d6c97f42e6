// Which instruction sets the Highway files are compiled for, and the padding they may rely on.
// Included before any Highway header.
#pragma once

#include <cstdint>

// AVX-512, AVX2, and a portable fallback for the rest; the sets between them are not worth their
// build time.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)

namespace qkv::cpu {

// Floats of the widest vector. Rows of scores are multiples of it.
inline constexpr int64_t kLanes = 16;

constexpr int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace qkv::cpu
