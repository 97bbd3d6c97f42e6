// merge: O and LSE of every row from those of its parts (core/merge_math.h).
//
// A warp computes one row: lane n the weight of part n, then each lane every 32nd column.
//
// Contract (qkv.h has the rest): a part with LSE_n = -inf is not read; with one other part, O and
// LSE are that part's bit for bit; without any, O = +0 and LSE = -inf; NaN propagates. O and LSE
// may be a part's own memory: an element is read and written by one lane, and LSE written behind
// a barrier of the warp.
#pragma once

#include "kernels/core/forward_args.h"
#include "kernels/core/merge_math.h"
#include "kernels/core/numeric.cuh"
#include "kernels/merge/merge/launch.h"

namespace qkv::kernels {

inline constexpr int kMergeWarps = kMergeThreads / 32;

namespace merging {

template <class T>
static __device__ const T* row_of(const Tensor& t, int b, int h, int i) {
  return static_cast<const T*>(t.data) + b * t.batch + h * t.head + i * t.row;
}

static __device__ float load(const Tensor& t, Type type, int b, int h, int i, int d) {
  if (type == Type::kF32) return row_of<float>(t, b, h, i)[d];
  if (type == Type::kF16) return to_float(row_of<__half>(t, b, h, i)[d]);
  return to_float(row_of<__nv_bfloat16>(t, b, h, i)[d]);
}

static __device__ void store(const Tensor& t, Type type, int b, int h, int i, int d, float x) {
  if (type == Type::kF32)
    const_cast<float*>(row_of<float>(t, b, h, i))[d] = x;
  else if (type == Type::kF16)
    const_cast<__half*>(row_of<__half>(t, b, h, i))[d] = from_float<__half>(x);
  else
    const_cast<__nv_bfloat16*>(row_of<__nv_bfloat16>(t, b, h, i))[d] = from_float<__nv_bfloat16>(x);
}

template <class Op>
static __device__ float reduce_warp(float x, Op op) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    x = op(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

}  // namespace merging

static __global__ void __launch_bounds__(kMergeThreads)
    merge(const __grid_constant__ MergeArgs args) {
  const int lane = threadIdx.x % 32;
  const int64_t row = int64_t{blockIdx.x} * kMergeWarps + threadIdx.x / 32;
  if (row >= int64_t{args.batch} * args.heads * args.seq) return;  // whole warps
  const int i = static_cast<int>(row % args.seq);
  const int h = static_cast<int>(row / args.seq % args.heads);
  const int b = static_cast<int>(row / args.seq / args.heads);

  float part_lse = -INFINITY;
  if (lane < args.parts) part_lse = *merging::row_of<float>(args.lse_parts[lane], b, h, i);
  const unsigned used = __ballot_sync(0xffffffffu, part_lse != -INFINITY);  // NaN is
  const float m = merging::reduce_warp(part_lse, fmaxf);
  const float w = part_weight(part_lse, m);
  const float l = merging::reduce_warp(w, [](float x, float y) { return x + y; });

  for (int d0 = 0; d0 < args.dim; d0 += 32) {
    const int d = d0 + lane;
    float o = 0;
    for (unsigned left = used; left != 0; left &= left - 1) {
      const int n = __ffs(static_cast<int>(left)) - 1;
      const float weight = __shfl_sync(0xffffffffu, w, n);
      if (d >= args.dim) continue;
      const float x = weight * merging::load(args.o_parts[n], args.part_type, b, h, i, d);
      o = left == used ? x : o + x;  // a lone -0 stays -0
    }
    if (d < args.dim) merging::store(args.o, args.o_type, b, h, i, d, merged_o(o, l));
  }
  __syncwarp();  // LSE may be that of a part, which another lane has read
  if (lane == 0 && args.lse.data != nullptr)
    *const_cast<float*>(merging::row_of<float>(args.lse, b, h, i)) = merged_lse(m, l);
}

}  // namespace qkv::kernels
