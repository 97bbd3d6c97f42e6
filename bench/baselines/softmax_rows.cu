#include <cuda_runtime_api.h>

#include <algorithm>

#include "bench/baselines/softmax_rows.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"

namespace qkv::bench {
namespace {

using kernels::kLog2E;
using OnlineSoftmax = kernels::OnlineSoftmax<>;

constexpr int kWidth = kSoftmaxPitch;  // elements that a thread reads and writes at a time
constexpr int kMaxThreads = 256;

template <class T>
struct alignas(16) Elements {
  T x[kWidth];
};

// The state of all threads' scores, in every thread.
__device__ OnlineSoftmax merge_block(OnlineSoftmax state) {
  __shared__ OnlineSoftmax warps[kMaxThreads / 32];
  for (int distance = 16; distance > 0; distance /= 2)
    state = merge(state,
                  OnlineSoftmax{__shfl_xor_sync(0xffffffffu, state.m, distance),
                                __shfl_xor_sync(0xffffffffu, state.l, distance)},
                  kLog2E);
  __syncthreads();  // all warps have read the row before
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = state;
  __syncthreads();  // all warps have written theirs
  state = warps[0];
  for (unsigned w = 1; w < blockDim.x / 32; ++w) state = merge(state, warps[w], kLog2E);
  return state;
}

// One block per row, which it reads twice: for maximum and sum, then, from the cache, to write P.
// With P in S's place a thread overwrites what it alone has read since the block's last barrier.
template <class S, class P>
__global__ void __launch_bounds__(kMaxThreads)
    softmax_rows(const S* gS, P* gP, int64_t rows, int64_t pitch, int64_t s_q, int64_t s_kv,
                 bool causal) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const auto* s = reinterpret_cast<const Elements<S>*>(gS + row * pitch);
    auto* p = reinterpret_cast<Elements<P>*>(gP + row * pitch);
    int64_t visible = s_kv;
    if (causal) visible = min(s_kv, max(int64_t{0}, row % s_q + s_kv - s_q + 1));

    // The scores of vector v, -inf where hidden.
    const auto scores = [&](int64_t v, float(&x)[kWidth]) {
      const Elements<S> e = s[v];
#pragma unroll
      for (int j = 0; j < kWidth; ++j)
        x[j] = v * kWidth + j < visible ? kernels::to_float(e.x[j]) : -INFINITY;
    };

    OnlineSoftmax state;
    for (int64_t v = threadIdx.x; v * kWidth < visible; v += blockDim.x) {
      float x[kWidth];
      scores(v, x);
      float x_max = x[0];
#pragma unroll
      for (int j = 1; j < kWidth; ++j) x_max = fmaxf(x_max, x[j]);
      state.raise(x_max, kLog2E);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) state.l += state.weight(x[j], kLog2E);
    }
    state = merge_block(state);
    const float inverse = state.empty() ? 0 : 1 / state.l;

    for (int64_t v = threadIdx.x; v * kWidth < s_kv; v += blockDim.x) {
      float x[kWidth];
      scores(v, x);
      Elements<P> e;
#pragma unroll
      for (int j = 0; j < kWidth; ++j)
        e.x[j] = kernels::from_float<P>(state.weight(x[j], kLog2E) * inverse);
      p[v] = e;
    }
  }
}

template <class S, class P>
int launch(const Unfused& problem, const void* s, void* p, int64_t rows, int64_t pitch,
           void* stream) {
  const int64_t vectors = (problem.s_kv + kWidth - 1) / kWidth;
  const int64_t threads = std::min<int64_t>(kMaxThreads, (vectors + 31) / 32 * 32);
  const int64_t blocks = std::min<int64_t>(rows, 0x7fffffff);
  softmax_rows<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), 0,
                 static_cast<cudaStream_t>(stream)>>>(static_cast<const S*>(s), static_cast<P*>(p),
                                                      rows, pitch, problem.s_q, problem.s_kv,
                                                      problem.causal);
  return cudaGetLastError();
}

}  // namespace

int launch_softmax_rows(const Unfused& problem, const void* s, qkv_type s_type, void* p,
                        qkv_type p_type, int64_t rows, int64_t pitch, void* stream) {
  const auto call = [&](auto run) { return run(problem, s, p, rows, pitch, stream); };
  if (s_type == QKV_TYPE_F32 && p_type == QKV_TYPE_F32) return call(launch<float, float>);
  if (s_type == QKV_TYPE_F32 && p_type == QKV_TYPE_F16) return call(launch<float, __half>);
  if (s_type == QKV_TYPE_F32 && p_type == QKV_TYPE_BF16) return call(launch<float, __nv_bfloat16>);
  if (s_type == QKV_TYPE_F16 && p_type == QKV_TYPE_F16) return call(launch<__half, __half>);
  if (s_type == QKV_TYPE_BF16 && p_type == QKV_TYPE_BF16)
    return call(launch<__nv_bfloat16, __nv_bfloat16>);
  return cudaErrorInvalidValue;
}

}  // namespace qkv::bench
