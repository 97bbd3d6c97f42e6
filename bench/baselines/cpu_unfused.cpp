#include "bench/baselines/cpu_unfused.h"

#include <cblas.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "bench/baselines/row_best.h"
#include "bench/baselines/row_softmax.h"
#include "bench/baselines/tanh_scores.h"
#include "host/core/cpu/convert.h"
#include "host/ops/attention/problem.h"

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

CpuUnfused::CpuUnfused(const Unfused& problem, int threads) : problem_(problem), threads_(threads) {
  const int64_t even = threads / std::gcd(problem.batch * problem.heads_q, int64_t{threads});
  rows_ = std::max((problem.s_q + even - 1) / even, std::min(problem.s_q, kMinRows));
  shares_ = rows_ == 0 ? 0 : (problem.s_q + rows_ - 1) / rows_;
}

size_t CpuUnfused::workspace_bytes() const {
  const Unfused& p = problem_;
  const int64_t rows = p.batch * p.heads_q * p.s_q;
  int64_t floats = aligned(rows * pitch(p));  // S, then P
  if (p.type != QKV_TYPE_F32)
    floats += aligned(rows * p.d_qk) + aligned(p.batch * p.heads_kv * p.s_kv * p.d_qk) +
              aligned(p.batch * p.heads_kv * p.s_kv * p.d_v) + aligned(rows * p.d_v);
  return static_cast<size_t>(floats) * sizeof(float);
}

template <class Body>
void CpuUnfused::for_each_share(const Body& body) const {
  const Unfused& p = problem_;
#pragma omp parallel for num_threads(threads_) schedule(dynamic)
  for (int64_t task = 0; task < p.batch * p.heads_q * shares_; ++task) {
    const int64_t head = task / shares_;                      // of batch * heads_q
    const int64_t head_kv = head / (p.heads_q / p.heads_kv);  // of batch * heads_kv
    const int64_t first = task % shares_ * rows_;
    body(head * p.s_q + first, std::min(rows_, p.s_q - first), head_kv);
  }
}

const float* CpuUnfused::as_float(const void* in, int64_t n, float** memory) const {
  if (problem_.type == QKV_TYPE_F32) return static_cast<const float*>(in);
  float* out = std::exchange(*memory, *memory + aligned(n));
  convert(in, problem_.type, n, out, threads_);
  return out;
}

// S = scale Q K^T, or scale w . tanh(q + k)
CpuUnfused::Memory CpuUnfused::scores(const void* q, const void* k, void* workspace) const {
  const Unfused& p = problem_;
  const int64_t rows = p.batch * p.heads_q * p.s_q, ld = pitch(p);
  auto* memory = static_cast<float*>(workspace);
  const float* q32 = as_float(q, rows * p.d_qk, &memory);
  const float* k32 = as_float(k, p.batch * p.heads_kv * p.s_kv * p.d_qk, &memory);
  float* s = std::exchange(memory, memory + aligned(rows * ld));
  openblas_set_num_threads(1);
  for_each_share([&](int64_t row, int64_t count, int64_t head_kv) {
    const float *from = q32 + row * p.d_qk, *keys = k32 + head_kv * p.s_kv * p.d_qk;
    float* to = s + row * ld;
    if (p.additive_weight != nullptr) {
      const float* w = p.additive_weight + row / p.s_q % p.heads_q * p.d_qk;
      tanh_scores(from, keys, w, count, p.s_kv, p.d_qk, p.scale, to, ld);
    } else if (p.s_kv > 0) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blas(count), blas(p.s_kv), blas(p.d_qk),
                  p.scale, from, blas(p.d_qk), keys, blas(p.d_qk), 0, to, blas(ld));
    }
  });
  return {s, memory};
}

void CpuUnfused::run_scores(const void* q, const void* k, void* workspace) const {
  scores(q, k, workspace);
}

// P = softmax(S), in place; a row that sees no key becomes zeros
void CpuUnfused::softmax(float* s) const {
  const Unfused& p = problem_;
  const int64_t rows = p.batch * p.heads_q * p.s_q, ld = pitch(p);
#pragma omp parallel for num_threads(threads_) schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    float* p_row = s + row * ld;
    const float sum = row_softmax(p_row, p.visible(row % p.s_q), p.s_kv);
    const float inverse = sum == 0 ? 1.0f : 1 / sum;
    for (int64_t j = 0; j < p.s_kv; ++j) p_row[j] *= inverse;
  }
}

// O = softmax over each row's best keys, times their values
void CpuUnfused::mix_best(float* s, const float* v, float* o) const {
  const Unfused& p = problem_;
  const int64_t rows = p.batch * p.heads_q * p.s_q, ld = pitch(p);
#pragma omp parallel num_threads(threads_)
  {
    std::vector<Ranked> best(static_cast<size_t>(p.best));
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t head_kv = row / p.s_q / (p.heads_q / p.heads_kv);
      float* out = o + row * p.d_v;
      std::fill_n(out, p.d_v, 0.0f);
      const int64_t count = row_best(s + row * ld, p.visible(row % p.s_q), p.best, best.data());
      float sum = 0;
      for (int64_t n = 0; n < count; ++n)
        sum += std::exp(best[static_cast<size_t>(n)].score - best[0].score);
      for (int64_t n = 0; n < count; ++n) {
        const Ranked& one = best[static_cast<size_t>(n)];
        const float weight = std::exp(one.score - best[0].score) / sum;
        const float* value = v + (head_kv * p.s_kv + one.key) * p.d_v;
        for (int64_t d = 0; d < p.d_v; ++d) out[d] += weight * value[d];
      }
    }
  }
}

void CpuUnfused::run(const void* q, const void* k, const void* v, void* o, void* workspace) const {
  const Unfused& p = problem_;
  const int64_t ld = pitch(p);
  auto [s, memory] = scores(q, k, workspace);
  const float* v32 = as_float(v, p.batch * p.heads_kv * p.s_kv * p.d_v, &memory);
  float* o32 = p.type == QKV_TYPE_F32 ? static_cast<float*>(o) : memory;
  if (p.best > 0) {
    mix_best(s, v32, o32);
  } else {
    softmax(s);
  }

  // O = P V
  for_each_share([&](int64_t row, int64_t count, int64_t head_kv) {
    float* out = o32 + row * p.d_v;
    if (p.best == 0 && p.s_kv > 0)
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, blas(count), blas(p.d_v), blas(p.s_kv),
                  1, s + row * ld, blas(ld), v32 + head_kv * p.s_kv * p.d_v, blas(p.d_v), 0, out,
                  blas(p.d_v));
    else if (p.best == 0)
      std::fill_n(out, count * p.d_v, 0.0f);
    if (p.type != QKV_TYPE_F32)
      cpu::divide(out, count * p.d_v, 1.0f,
                  static_cast<std::byte*>(o) + row * p.d_v * host::type_size(p.type), p.type);
  });
}

}  // namespace qkv::bench
