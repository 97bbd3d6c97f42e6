#include "bench/baselines/cpu_heads.h"

#include <algorithm>

namespace qkv::bench {

void CpuHeads::apart(const float* rows, int64_t pitch, float* heads_apart, int threads) const {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < batch * s; ++row)
    for (int64_t h = 0; h < heads; ++h)
      std::copy_n(rows + row * pitch + h * dim, dim,
                  heads_apart + ((row / s * heads + h) * s + row % s) * dim);
}

void CpuHeads::together(const float* heads_apart, float* rows, int threads) const {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < batch * s; ++row)
    for (int64_t h = 0; h < heads; ++h)
      std::copy_n(heads_apart + ((row / s * heads + h) * s + row % s) * dim, dim,
                  rows + (row * heads + h) * dim);
}

}  // namespace qkv::bench
