#include "bench/baselines/cpu_product.h"

#include <cblas.h>

#include <algorithm>
#include <utility>

#include "host/core/cpu/convert.h"
#include "host/core/view.h"

namespace qkv::bench {
namespace {

// As fp32, every thread a share of it.
void widen(const void* in, qkv_type type, int64_t n, float* out, int threads) {
  constexpr int64_t kBlock = 1 << 14;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t first = 0; first < n; first += kBlock)
    cpu::to_float(static_cast<const std::byte*>(in) + first * host::type_size(type), type, 1,
                  std::min(kBlock, n - first), out + first);
}

blasint blas(int64_t n) { return static_cast<blasint>(n); }

}  // namespace

size_t workspace_bytes(const PlainProduct& p) {
  if (p.type == QKV_TYPE_F32) return 0;
  return static_cast<size_t>(p.rows * p.in + p.out * p.in + p.rows * p.out + p.out) * sizeof(float);
}

void run(const PlainProduct& p, const void* x, const void* weight, const void* bias, void* y,
         void* workspace, int threads) {
  auto* memory = static_cast<float*>(workspace);
  const auto take = [&](int64_t n) { return std::exchange(memory, memory + n); };
  const auto as_float = [&](const void* in, int64_t n) -> const float* {
    if (p.type == QKV_TYPE_F32) return static_cast<const float*>(in);
    float* const out = take(n);
    widen(in, p.type, n, out, threads);
    return out;
  };
  const float* const x32 = as_float(x, p.rows * p.in);
  const float* const w32 = as_float(weight, p.out * p.in);
  const float* const b32 = p.bias ? as_float(bias, p.out) : nullptr;
  float* const y32 = p.type == QKV_TYPE_F32 ? static_cast<float*>(y) : take(p.rows * p.out);
  openblas_set_num_threads(threads);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, p.by_out ? CblasTrans : CblasNoTrans, blas(p.rows),
              blas(p.out), blas(p.in), 1, x32, blas(p.in), w32, blas(p.by_out ? p.in : p.out), 0,
              y32, blas(p.out));
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < p.rows; ++row) {
    float* const sums = y32 + row * p.out;
    if (p.bias)
      for (int64_t c = 0; c < p.out; ++c) sums[c] += b32[c];
    if (p.type != QKV_TYPE_F32)
      cpu::from_float(sums, p.out,
                      static_cast<std::byte*>(y) + row * p.out * host::type_size(p.type), p.type,
                      1);
  }
}

}  // namespace qkv::bench
