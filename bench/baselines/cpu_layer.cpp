#include "bench/baselines/cpu_layer.h"

#include <cblas.h>

#include <algorithm>

namespace qkv::bench {

void CpuProduct::run(int threads) const {
  const auto n = [](int64_t size) { return static_cast<blasint>(size); };
  if (bias != nullptr) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; ++row) std::copy_n(bias, out, y + row * out);
  }
  openblas_set_num_threads(threads);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, in_out ? CblasNoTrans : CblasTrans, n(rows), n(out),
              n(in), 1, x, n(in), weight, n(in_out ? out : in), bias != nullptr ? 1.0f : 0.0f, y,
              n(out));
}

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
