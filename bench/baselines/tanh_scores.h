// Additive scores as a program has them that stores its scores and takes tanh from a vector
// library: Highway's.
#pragma once

#include <cstdint>

namespace qkv::bench {

// s[r, j] = scale * sum_d w[d] tanh(q[r, d] + k[j, d]); rows of s are `pitch` apart.
void tanh_scores(const float* q, const float* k, const float* w, int64_t rows, int64_t keys,
                 int64_t dim, float scale, float* s, int64_t pitch);

}  // namespace qkv::bench
