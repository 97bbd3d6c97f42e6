// A layer on the CPU as a program writes it that has a BLAS and no attention library: OpenBLAS's
// sgemm for each projection, a copy that puts heads apart, unfused attention, a copy back, sgemm.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/baselines/cpu_unfused.h"

namespace qkv::bench {

// y = x W^T + bias in fp32. `bias` may be null.
struct CpuProduct {
  const float* x;  // [rows, in]
  const float* weight;
  const float* bias;
  float* y;  // [rows, out]
  int64_t rows, in, out;
  bool in_out = false;  // weight is [in, out], else [out, in]

  void run(int threads) const;
};

// Heads side by side, [batch, s, heads dim], put apart, [batch, heads, s, dim], or back.
struct CpuHeads {
  int64_t batch, heads, s, dim;

  // `rows` has `pitch` elements from row to row; these heads begin at its first.
  void apart(const float* rows, int64_t pitch, float* heads_apart, int threads) const;
  void together(const float* heads_apart, float* rows, int threads) const;
};

}  // namespace qkv::bench
