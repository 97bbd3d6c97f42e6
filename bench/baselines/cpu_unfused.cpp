#include "bench/baselines/cpu_unfused.h"

#include <cblas.h>
#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "bench/baselines/row_softmax.h"
#include "host/cpu/convert.h"
#include "host/problem.h"

namespace qkv::bench {
namespace {

constexpr int64_t kMinRows = 64;  // of a share: below it the products get inefficient

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Floats from one row of S to the next: whole vectors.
int64_t pitch(const Unfused& p) { return round_up(p.s_kv, kRowAlignment); }

int64_t aligned(int64_t floats) { return round_up(floats, kRowAlignment); }

blasint blas(int64_t n) { return static_cast<blasint>(n); }

// All of a tensor as fp32, every thread a share of it.
void convert(const void* in, qkv_type type, int64_t n, float* out, int threads) {
  constexpr int64_t kBlock = 1 << 14;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t first = 0; first < n; first += kBlock)
    cpu::to_float(static_cast<const std::byte*>(in) + first * host::type_size(type), type, 1,
                  std::min(kBlock, n - first), out + first);
}

}  // namespace

// A thread's matrices: its rows of S, which become e^(S - max), their sums, and O before it is
// divided by them.
struct CpuUnfused::Scratch {
  float *s, *sums, *o;

  static int64_t floats(const Unfused& p, int64_t rows) {
    return aligned(rows * pitch(p)) + aligned(rows) + aligned(rows * p.d_v);
  }
  Scratch(const Unfused& p, int64_t rows, float* memory)
      : s(memory), sums(s + aligned(rows * pitch(p))), o(sums + aligned(rows)) {}
};

CpuUnfused::CpuUnfused(const Unfused& problem, int threads) : problem_(problem), threads_(threads) {
  const int64_t even = threads / std::gcd(problem.batch * problem.heads_q, int64_t{threads});
  rows_ = std::max((problem.s_q + even - 1) / even, std::min(problem.s_q, kMinRows));
  shares_ = rows_ == 0 ? 0 : (problem.s_q + rows_ - 1) / rows_;
}

size_t CpuUnfused::workspace_bytes() const {
  const Unfused& p = problem_;
  int64_t floats = threads_ * Scratch::floats(p, rows_);
  if (p.type != QKV_TYPE_F32)
    floats += aligned(p.batch * p.heads_q * p.s_q * p.d_qk) +
              aligned(p.batch * p.heads_kv * p.s_kv * p.d_qk) +
              aligned(p.batch * p.heads_kv * p.s_kv * p.d_v);
  return static_cast<size_t>(floats) * sizeof(float);
}

void CpuUnfused::run(const void* q, const void* k, const void* v, void* o, void* workspace) const {
  const Unfused& p = problem_;
  auto* memory = static_cast<float*>(workspace);
  const auto as_float = [&](const void* in, int64_t n) -> const float* {
    if (p.type == QKV_TYPE_F32) return static_cast<const float*>(in);
    float* out = memory;
    memory += aligned(n);
    convert(in, p.type, n, out, threads_);
    return out;
  };
  const float* q32 = as_float(q, p.batch * p.heads_q * p.s_q * p.d_qk);
  const float* k32 = as_float(k, p.batch * p.heads_kv * p.s_kv * p.d_qk);
  const float* v32 = as_float(v, p.batch * p.heads_kv * p.s_kv * p.d_v);

  openblas_set_num_threads(1);
#pragma omp parallel for num_threads(threads_) schedule(dynamic)
  for (int64_t task = 0; task < p.batch * p.heads_q * shares_; ++task) {
    const int64_t head = task / shares_;                      // of batch * heads_q
    const int64_t head_kv = head / (p.heads_q / p.heads_kv);  // of batch * heads_kv
    const int64_t first = task % shares_ * rows_;
    const int64_t row = head * p.s_q + first;
    const Scratch scratch(p, rows_, memory + omp_get_thread_num() * Scratch::floats(p, rows_));
    run_rows(scratch, first, std::min(rows_, p.s_q - first), q32 + row * p.d_qk,
             k32 + head_kv * p.s_kv * p.d_qk, v32 + head_kv * p.s_kv * p.d_v,
             static_cast<std::byte*>(o) + row * p.d_v * host::type_size(p.type));
  }
}

void CpuUnfused::run_rows(const Scratch& scratch, int64_t first, int64_t rows, const float* q,
                          const float* k, const float* v, void* o) const {
  const Unfused& p = problem_;
  const int64_t ld = pitch(p);

  // S = scale Q K^T
  if (p.s_kv > 0)
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blas(rows), blas(p.s_kv), blas(p.d_qk),
                p.scale, q, blas(p.d_qk), k, blas(p.d_qk), 0, scratch.s, blas(ld));

  // P = e^(S - max), not yet divided by its row sums
  for (int64_t i = 0; i < rows; ++i)
    scratch.sums[i] = row_softmax(scratch.s + i * ld, p.visible(first + i), p.s_kv);

  // O = P V
  float* product = p.type == QKV_TYPE_F32 ? static_cast<float*>(o) : scratch.o;
  if (p.s_kv > 0)
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, blas(rows), blas(p.d_v), blas(p.s_kv), 1,
                scratch.s, blas(ld), v, blas(p.d_v), 0, product, blas(p.d_v));
  else
    std::fill(product, product + rows * p.d_v, 0.0f);

  // The division waits until here: d_v numbers a row instead of s_kv. A row of zeros stays one.
  for (int64_t i = 0; i < rows; ++i)
    cpu::divide(product + i * p.d_v, p.d_v, scratch.sums[i] == 0 ? 1.0f : scratch.sums[i],
                static_cast<std::byte*>(o) + i * p.d_v * host::type_size(p.type), p.type);
}

}  // namespace qkv::bench
