// What follows the product of the unfused GPU baseline under hard selection. No CUDA headers: the
// caller is plain C++.
#pragma once

#include <cstdint>

#include "bench/baselines/unfused.h"

namespace qkv::bench {

// Queues O = V's row of each row's best key on `stream`: `rows` rows of `pitch` fp32 scores, the
// first s_kv of them in use, without NaN; of equal scores the lowest key's. A row that sees no key
// becomes zeros. Returns a cudaError_t.
int launch_best_rows(const Unfused& problem, const float* s, const void* v, void* o, int64_t rows,
                     int64_t pitch, void* stream);

}  // namespace qkv::bench
