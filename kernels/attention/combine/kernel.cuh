// combine: O and LSE of every row from the partial ones that the splits of a forward kernel left in
// the workspace (core/merge_math.h): the second kernel of flash decoding.
//
// A block computes one row; its warp w sums up the splits w, w + 4, ..., each lane four columns,
// and warp 0 adds the warps' sums in order. The order of additions depends on a split's number
// alone: splits without keys change no bit.
//
// It may be launched while the splits are under way (griddepcontrol).
//
// Contract: a split without keys is not read; a split that is alone with keys comes out bit for
// bit (O rounded); without any, O = +0 and LSE = -inf; NaN propagates.
#pragma once

#include <cstdint>

#include "kernels/attention/combine/launch.h"
#include "kernels/core/merge_math.h"
#include "kernels/core/numeric.cuh"
#include "kernels/ptx/griddepcontrol.h"

namespace qkv::kernels {

struct CombineSmem {
  SplitLse lse[kMaxSplits];
  float4 sum[kCombineThreads];
  bool used[kCombineThreads / 32];
};

namespace combining {

static __device__ float4 add(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

static __device__ float4 scale(float w, float4 a) {
  return make_float4(w * a.x, w * a.y, w * a.z, w * a.w);
}

}  // namespace combining

template <Type kType>
static __global__ void __launch_bounds__(kCombineThreads)
    combine(const __grid_constant__ ForwardArgs args, int32_t splits,
            const __grid_constant__ Partials partials) {
  using T = Element<kType>;
  constexpr int kWarps = kCombineThreads / 32;
  __shared__ CombineSmem smem;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const auto block = static_cast<int64_t>(blockIdx.x);
  const int64_t rows = int64_t{args.batch} * args.heads_q * args.s_q;
  const int i = static_cast<int>(block % args.s_q);
  const int h = static_cast<int>(block / args.s_q % args.heads_q);
  const int b = static_cast<int>(block / args.s_q / args.heads_q);

  ptx::griddepcontrol_wait();
  for (int n = threadIdx.x; n < splits; n += kCombineThreads)
    smem.lse[n] = partials.lse[n * rows + block];
  __syncthreads();

  // Every warp computes m and l, all in the same order. LSEs are taken relative to their largest
  // high part before their low parts are added.
  const auto largest = [&](auto&& of_split) {
    float x = -INFINITY;
    for (int n = lane; n < splits; n += 32) x = fmaxf(x, of_split(n));
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
  };
  const float high = largest([&](int n) { return smem.lse[n].high; });
  const auto has_keys = [&](int n) {
    return !(smem.lse[n].high == -INFINITY && smem.lse[n].low == 0);
  };
  const auto relative = [&](int n) {
    return has_keys(n) ? smem.lse[n].high - high + smem.lse[n].low : -INFINITY;
  };
  const float m = largest(relative);
  float l = 0;
  for (int n = lane; n < splits; n += 32) l += part_weight(relative(n), m);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    l += __shfl_xor_sync(0xffffffffu, l, distance);

  for (int d0 = 0; d0 < args.d_v; d0 += 128) {
    const int d = d0 + lane * 4;
    const float* from = partials.o + block * args.d_v + d;
    float4 sum = make_float4(0, 0, 0, 0);
    bool used = false;
#pragma unroll 4
    for (int n = warp; n < splits; n += kWarps) {
      if (!has_keys(n) || d >= args.d_v) continue;
      const float4 x =
          combining::scale(part_weight(relative(n), m),
                           *reinterpret_cast<const float4*>(from + n * rows * args.d_v));
      sum = used ? combining::add(sum, x) : x;  // a lone -0 stays -0
      used = true;
    }
    smem.sum[threadIdx.x] = sum;
    if (lane == 0) smem.used[warp] = used;
    __syncthreads();
    if (warp == 0 && d < args.d_v) {
      for (int other = 1; other < kWarps; ++other) {
        if (!smem.used[other]) continue;
        const float4 x = smem.sum[other * 32 + lane];
        sum = used ? combining::add(sum, x) : x;
        used = true;
      }
      struct alignas(4 * sizeof(T)) Four {
        T x[4];
      };
      const Four o{{from_float<T>(merged_o(sum.x, l)), from_float<T>(merged_o(sum.y, l)),
                    from_float<T>(merged_o(sum.z, l)), from_float<T>(merged_o(sum.w, l))}};
      T* to = static_cast<T*>(args.o.data) + b * args.o.batch + h * args.o.head + i * args.o.row;
      *reinterpret_cast<Four*>(to + d) = o;
    }
    __syncthreads();  // sums are read before the next columns' are written
  }
  if (threadIdx.x == 0 && args.lse.data != nullptr)
    static_cast<float*>(args.lse.data)[b * args.lse.batch + h * args.lse.head + i * args.lse.row] =
        l == 0 ? -INFINITY : high + merged_lse(m, l);
}

}  // namespace qkv::kernels
