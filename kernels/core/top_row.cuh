// The results of top-k selection for one row, once its list is complete.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/selected_row.cuh"
#include "kernels/core/top_k_args.h"
#include "kernels/core/top_list.cuh"

namespace qkv::kernels {

// Rows of T, 16-byte aligned, d_v a multiple of 8. A row is written by `lanes` lanes, 4 or 32, of
// which this is number `lane`; all lanes of the warp together, with the same k. Its bits are the
// same for both.
template <class T>
struct TopRow {
  const ForwardArgs& args;
  const TopKArgs& top;
  OutputRow row;
  int lane, lanes;

  // The list's keys become weights: the upper half of each that of its fp32 number. A row that does
  // not exist takes part and writes nothing.
  __device__ void write(const TopList& list, bool exists) const {
    const float m = score_of(list.keys[0]);
    float l = 0;
    int count = 0;
    __syncwarp();  // all have read m
    if (lane < 4) {
      for (int n = lane; n < list.k; n += 4) {
        const RankedKey key = list.keys[n];
        if (exists) write_key(n, key);
        if (key == 0) continue;
        const float weight = ptx::ex2_approx_ftz(kLog2E * (score_of(key) - m));
        list.keys[n] = RankedKey{__float_as_uint(weight)} << 32 | static_cast<uint32_t>(key);
        l += weight;
        ++count;
      }
    }
    const int first = static_cast<int>(threadIdx.x) % 32 - lane;  // of the row's lanes
    l = over_quad(l, first);
    count = over_quad(count, first);
    __syncwarp();  // the weights are there
    if (!exists) return;
    if (lane == 0 && args.lse.data != nullptr)
      static_cast<float*>(args.lse.data)[at(args.lse)] = count == 0 ? -INFINITY : m + logf(l);
    write_o(list, count, 1 / l);
  }

 private:
  __device__ int64_t at(const Tensor& t) const {
    return row.batch * t.batch + row.head * t.head + row.i * t.row;
  }

  // The sum over the first four lanes of the row.
  template <class Number>
  static __device__ Number over_quad(Number x, int first) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    x += __shfl_xor_sync(0xffffffffu, x, 2);
    return __shfl_sync(0xffffffffu, x, first);
  }

  __device__ void write_key(int n, RankedKey key) const {
    if (top.scores.data != nullptr)
      static_cast<float*>(top.scores.data)[at(top.scores) + n] = score_of(key);
    if (args.index.data == nullptr) return;
    if (args.index_i64)
      static_cast<int64_t*>(args.index.data)[at(args.index) + n] = key_of(key);
    else
      static_cast<int32_t*>(args.index.data)[at(args.index) + n] = key_of(key);
  }

  __device__ void write_o(const TopList& list, int count, float inverse) const {
    const T* gV =
        static_cast<const T*>(args.v.data) + row.batch * args.v.batch + row.head_kv * args.v.head;
    T* gO = static_cast<T*>(args.o.data) + at(args.o);
    for (int d = lane * 8; d < args.d_v; d += lanes * 8) {
      float o[8] = {};
#pragma unroll 4
      for (int n = 0; n < count; ++n) {
        const RankedKey key = list.keys[n];
        const float weight = __uint_as_float(static_cast<uint32_t>(key >> 32));
        add(o, weight, *reinterpret_cast<const uint4*>(gV + key_of(key) * args.v.row + d));
      }
#pragma unroll
      for (float& x : o) x = count == 0 ? 0 : x * inverse;
      *reinterpret_cast<uint4*>(gO + d) = make_uint4(pack<T>(o[0], o[1]), pack<T>(o[2], o[3]),
                                                     pack<T>(o[4], o[5]), pack<T>(o[6], o[7]));
    }
  }

  static __device__ void add(float (&o)[8], float weight, const uint4& v) {
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const T* const pair = reinterpret_cast<const T*>(&words[n / 2]);
      o[n] = fmaf(weight, to_float(pair[n % 2]), o[n]);
    }
  }
};

}  // namespace qkv::kernels
