// What top-k selection is told beside ForwardArgs.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"

namespace qkv::kernels {

inline constexpr int32_t kMaxTopK = 128;

struct TopKArgs {
  int32_t k = 1;  // keys of a row, up to kMaxTopK
  Tensor scores;  // [batch, heads_q, s_q, k] fp32; data may be null
};

}  // namespace qkv::kernels
