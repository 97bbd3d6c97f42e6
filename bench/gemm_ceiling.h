// The machine's own ceiling: what cuBLAS reaches on a large product.
#pragma once

#include "bench/cuda_tools.h"
#include "qkv/qkv.h"

namespace qkv::bench {

// Median TFLOP/s of C = A B, all 8192 x 8192 and of the type, fp32 accumulation, random numbers, on
// a card that is warm. NaN without cuBLAS.
double gemm_ceiling_tflops(qkv_type type, DeviceTimer* timer);

}  // namespace qkv::bench
