// Element types in device code, and their conversions to and from fp32 (to nearest, ties to even).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/core/forward_args.h"

namespace qkv::kernels {

template <Type kType>
struct ElementOf;
template <>
struct ElementOf<Type::kF32> {
  using type = float;
};
template <>
struct ElementOf<Type::kF16> {
  using type = __half;
};
template <>
struct ElementOf<Type::kBF16> {
  using type = __nv_bfloat16;
};

template <Type kType>
using Element = typename ElementOf<kType>::type;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// x as T holds it.
template <class T>
__device__ inline float round_to(float x) {
  return to_float(from_float<T>(x));
}

// Two elements in one register, `low` at the lower address.
template <class T>
__device__ inline uint32_t pack(float low, float high) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 x = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&x);
  } else {
    const __nv_bfloat162 x = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&x);
  }
}

}  // namespace qkv::kernels
