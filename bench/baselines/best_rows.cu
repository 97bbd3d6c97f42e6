#include <cuda_runtime_api.h>

#include <algorithm>

#include "bench/baselines/best_rows.h"

namespace qkv::bench {
namespace {

constexpr int kThreads = 256;

struct Best {
  float score = -INFINITY;
  int64_t key = -1;
};

__device__ Best better(const Best& a, const Best& b) {
  if (b.key < 0) return a;
  return a.key < 0 || b.score > a.score || (b.score == a.score && b.key < a.key) ? b : a;
}

// The best of all threads, in every thread.
__device__ Best best_of_block(Best best) {
  __shared__ Best all[kThreads];
  __syncthreads();  // all threads have read the row before
  all[threadIdx.x] = best;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) all[threadIdx.x] = better(all[threadIdx.x], all[threadIdx.x + half]);
  }
  __syncthreads();
  return all[0];
}

// One block per row. T has the size of an element.
template <class T>
__global__ void __launch_bounds__(kThreads)
    best_rows(const float* gS, const T* gV, T* gO, int64_t rows, int64_t pitch, int64_t group,
              int64_t s_q, int64_t s_kv, int64_t d_v, bool causal) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float* s = gS + row * pitch;
    int64_t visible = s_kv;
    if (causal) visible = min(s_kv, max(int64_t{0}, row % s_q + s_kv - s_q + 1));
    Best best;
    for (int64_t key = threadIdx.x; key < visible; key += kThreads)
      best = better(best, Best{s[key], key});
    best = best_of_block(best);
    const T* v = gV + (row / s_q / group * s_kv + best.key) * d_v;
    for (int64_t d = threadIdx.x; d < d_v; d += kThreads)
      gO[row * d_v + d] = best.key < 0 ? T{0} : v[d];
  }
}

template <class T>
int launch(const Unfused& p, const float* s, const void* v, void* o, int64_t rows, int64_t pitch,
           void* stream) {
  const int64_t blocks = std::min<int64_t>(rows, 0x7fffffff);
  best_rows<<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      s, static_cast<const T*>(v), static_cast<T*>(o), rows, pitch, p.heads_q / p.heads_kv, p.s_q,
      p.s_kv, p.d_v, p.causal);
  return cudaGetLastError();
}

}  // namespace

int launch_best_rows(const Unfused& problem, const float* s, const void* v, void* o, int64_t rows,
                     int64_t pitch, void* stream) {
  return problem.type == QKV_TYPE_F32 ? launch<uint32_t>(problem, s, v, o, rows, pitch, stream)
                                      : launch<uint16_t>(problem, s, v, o, rows, pitch, stream);
}

}  // namespace qkv::bench
