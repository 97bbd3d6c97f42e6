// Copies between products and unfused attention, which are what a program does that has a BLAS and
// no attention library.
#pragma once

#include <cstdint>

namespace qkv::bench {

// Heads side by side, [batch, s, heads dim], put apart, [batch, heads, s, dim], or back.
struct CpuHeads {
  int64_t batch, heads, s, dim;

  // `rows` has `pitch` elements from row to row; these heads begin at its first.
  void apart(const float* rows, int64_t pitch, float* heads_apart, int threads) const;
  void together(const float* heads_apart, float* rows, int threads) const;
};

}  // namespace qkv::bench
