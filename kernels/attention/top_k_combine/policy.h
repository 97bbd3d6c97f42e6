// top_k_combine's sizes, for the host's plan and the kernel.
#pragma once

#include <cstdint>

#include "kernels/core/ranked_key.h"

namespace qkv::kernels {

inline constexpr int32_t kTopKCombineThreads = 128;  // a warp for each row

// Bytes of workspace for the lists of k keys that the splits of `rows` rows leave.
constexpr int64_t top_lists_bytes(int64_t splits, int64_t rows, int64_t k) {
  return splits * rows * k * int64_t{sizeof(RankedKey)};
}

}  // namespace qkv::kernels
