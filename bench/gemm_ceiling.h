// The machine's own ceiling: what cuBLAS reaches on a large product.
#pragma once

#include "bench/cuda_tools.h"
#include "qkv/qkv.h"

namespace qkv::bench {

struct GemmRuns {
  int size = 8192;  // of the square matrices
  int runs = 31;
  double warm_seconds = 0.5;  // of device time, before
};

// Median TFLOP/s of C = A B of the type, fp32 accumulation, random numbers, on a card that is warm.
// NaN without cuBLAS.
double gemm_ceiling_tflops(qkv_type type, DeviceTimer* timer, const GemmRuns& how = {});

}  // namespace qkv::bench
