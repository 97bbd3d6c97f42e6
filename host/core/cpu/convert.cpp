#include "host/core/cpu/convert.h"

#include <cstring>

#include "host/core/cpu/targets.h"
#include "host/core/numeric.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/core/cpu/convert.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "host/core/cpu/dispatch.h"
#include "host/core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::cpu::HWY_NAMESPACE {

struct BfloatFormat {
  using Scalar = host::Bfloat;
  static HWY_INLINE V32 Widen(F32 d, hn::Vec<U16> bits) { return FromBf16(d, bits); }
  static HWY_INLINE hn::Vec<U16> Narrow(F32 d, V32 x) { return RoundToBf16(d, x); }
};

struct HalfFormat {
  using Scalar = host::Half;
  static HWY_INLINE V32 Widen(F32 d, hn::Vec<U16> bits) { return FromF16(d, bits); }
  static HWY_INLINE hn::Vec<U16> Narrow(F32 d, V32 x) { return RoundToF16(d, x); }
};

template <class Format>
HWY_INLINE void WidenRow(const uint16_t* in, int64_t n, float* out) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    hn::StoreU(Format::Widen(d, hn::LoadU(U16(), in + i)), d, out + i);
  }
  for (; i < n; ++i) out[i] = host::to_float(typename Format::Scalar{in[i]});
}

template <class Format>
HWY_INLINE void DivideRow(const float* in, int64_t n, float divisor, uint16_t* out) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const V32 by = hn::Set(d, divisor);
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    hn::StoreU(Format::Narrow(d, hn::Div(hn::LoadU(d, in + i), by)), U16(), out + i);
  }
  for (; i < n; ++i) out[i] = host::from_float<typename Format::Scalar>(in[i] / divisor).bits;
}

HWY_INLINE void DivideFloats(const float* in, int64_t n, float divisor, float* out) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const V32 by = hn::Set(d, divisor);
  int64_t i = 0;
  for (; i + step <= n; i += step) hn::StoreU(hn::Div(hn::LoadU(d, in + i), by), d, out + i);
  for (; i < n; ++i) out[i] = in[i] / divisor;
}

void Widen(const uint16_t* in, qkv_type type, int64_t n, float* out) {
  return type == QKV_TYPE_BF16 ? WidenRow<BfloatFormat>(in, n, out)
                               : WidenRow<HalfFormat>(in, n, out);
}

void Divide(const float* in, int64_t n, float divisor, void* out, qkv_type type) {
  if (type == QKV_TYPE_F32) return DivideFloats(in, n, divisor, static_cast<float*>(out));
  auto* bits = static_cast<uint16_t*>(out);
  return type == QKV_TYPE_BF16 ? DivideRow<BfloatFormat>(in, n, divisor, bits)
                               : DivideRow<HalfFormat>(in, n, divisor, bits);
}

}  // namespace qkv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qkv::cpu {
namespace {

HWY_EXPORT(Widen);
HWY_EXPORT(Divide);

template <class T>
void gather(const T* in, int64_t stride, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = host::to_float(in[i * stride]);
}

template <class T>
void scatter(const float* in, int64_t n, T* out, int64_t stride) {
  for (int64_t i = 0; i < n; ++i) out[i * stride] = host::from_float<T>(in[i]);
}

}  // namespace

void to_float(const void* in, qkv_type type, int64_t stride, int64_t n, float* out) {
  if (n == 0) return;
  if (stride == 1 && type == QKV_TYPE_F32) {
    std::memcpy(out, in, static_cast<size_t>(n) * sizeof(float));
  } else if (stride == 1) {
    HWY_DYNAMIC_DISPATCH(Widen)(static_cast<const uint16_t*>(in), type, n, out);
  } else if (type == QKV_TYPE_F32) {
    gather(static_cast<const float*>(in), stride, n, out);
  } else if (type == QKV_TYPE_BF16) {
    gather(static_cast<const host::Bfloat*>(in), stride, n, out);
  } else {
    gather(static_cast<const host::Half*>(in), stride, n, out);
  }
}

void from_float(const float* in, int64_t n, void* out, qkv_type type, int64_t stride) {
  if (n == 0) return;
  if (stride == 1 && type == QKV_TYPE_F32) {
    std::memcpy(out, in, static_cast<size_t>(n) * sizeof(float));
  } else if (stride == 1) {
    HWY_DYNAMIC_DISPATCH(Divide)(in, n, 1.0f, out, type);
  } else if (type == QKV_TYPE_F32) {
    scatter(in, n, static_cast<float*>(out), stride);
  } else if (type == QKV_TYPE_BF16) {
    scatter(in, n, static_cast<host::Bfloat*>(out), stride);
  } else {
    scatter(in, n, static_cast<host::Half*>(out), stride);
  }
}

void divide(const float* in, int64_t n, float divisor, void* out, qkv_type type) {
  HWY_DYNAMIC_DISPATCH(Divide)(in, n, divisor, out, type);
}

}  // namespace qkv::cpu
#endif  // HWY_ONCE
