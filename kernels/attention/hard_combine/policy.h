// hard_combine's sizes, for the host's plan and the kernel.
#pragma once

#include <cstdint>

#include "kernels/core/best_key.h"

namespace qkv::kernels {

inline constexpr int32_t kHardCombineThreads = 128;  // a warp for each row

// Bytes of workspace for the best keys that the splits of `rows` rows leave.
constexpr int64_t best_keys_bytes(int64_t splits, int64_t rows) {
  return splits * rows * int64_t{sizeof(BestKey)};
}

}  // namespace qkv::kernels
