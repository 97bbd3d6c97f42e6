#include "machine/tensor_sum.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>

#include "common/minifloat.h"

namespace vgpu {
namespace {

using ptx::Type;

constexpr u32 kMostProducts = 64;

int smallest_exponent(Type type) {
  switch (type) {
    case Type::kF16:
    case Type::kE5m2:
      return -14;
    case Type::kE4m3:
      return -6;
    default:
      return -126;
  }
}

// To f32 toward zero; infinite where the exponent does not fit.
__m128 toward_zero(__m256d x) {
  const __m256d sign = _mm256_set1_pd(-0.0);
  const __m256d size = _mm256_andnot_pd(sign, x);
  const __m128 nearest = _mm256_cvtpd_ps(size);
  const __m256d above =
      _mm256_and_pd(_mm256_cmp_pd(_mm256_cvtps_pd(nearest), size, _CMP_GT_OQ),
                    _mm256_cmp_pd(size, _mm256_set1_pd(std::ldexp(1.0, 128)), _CMP_LT_OQ));
  // One less, as a number of bits, where rounding went up: the low half of each mask is all ones.
  const __m128i one = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(
      _mm256_castpd_si256(above), _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6)));
  const __m128i bits = _mm_add_epi32(_mm_castps_si128(nearest), one);
  const __m128 minus = _mm256_cvtpd_ps(_mm256_and_pd(sign, x));
  return _mm_or_ps(_mm_castsi128_ps(bits), minus);
}

__m128 to_half_nearest(__m256d x) {
  alignas(32) double in[4];
  alignas(16) float out[4];
  _mm256_store_pd(in, x);
  for (int i = 0; i < 4; ++i)
    out[i] = half_to_float(static_cast<u16>(encode(kF16, in[i], Rounding::kNearestEven, false)));
  return _mm_load_ps(out);
}

}  // namespace

TensorSum tensor_sum(int capability, Type type) {
  const bool fp8 = type == Type::kE4m3 || type == Type::kE5m2, tf32 = type == Type::kTf32;
  if (capability == 89 && fp8) return {16, 13, 23};
  if (capability >= 80 && capability <= 89) return {tf32 ? 4u : 8u, 24, 23};
  if (fp8) return {32, 13, 13};
  return {tf32 ? 8u : 16u, 25, 23};
}

void tensor_elements(Type type, const float* elements, size_t count, double* values,
                     double* powers) {
  const float least = std::ldexp(1.0f, smallest_exponent(type));
  for (size_t i = 0; i < count; ++i) {
    const float x = elements[i];
    values[i] = x;
    powers[i] = x == 0 ? 0.0f : std::max(bits<float>(bits<u32>(x) & 0x7f800000u), least);
  }
}

void add_products(const TensorSum& how, const TensorFactors& f, bool half, const float* c,
                  float* out) {
  const __m256d exponent = _mm256_castsi256_pd(_mm256_set1_epi64x(0x7ff0000000000000));
  // Below this exponent devices shift no further; it also keeps the quotient finite.
  const __m256d lowest = _mm256_set1_pd(std::ldexp(1.0, -133));
  const __m256d least = _mm256_set1_pd(std::ldexp(1.0, -126));  // of c
  const __m256d kept = _mm256_set1_pd(std::ldexp(1.0, how.kept));
  const __m128i fraction = _mm_set1_epi32(static_cast<int>(~0u << (23 - how.fraction)));
  const __m256d zero = _mm256_setzero_pd();
  constexpr int kTruncate = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
  __m128 result = _mm_loadu_ps(c);
  for (u32 first = 0; first < f.k; first += how.group) {
    const u32 count = std::min(how.group, f.k - first);
    const __m256d sum_so_far = _mm256_cvtps_pd(result);
    const __m256d nonzero = _mm256_cmp_pd(sum_so_far, zero, _CMP_NEQ_UQ);
    __m256d top = _mm256_max_pd(_mm256_and_pd(sum_so_far, exponent), least);
    top = _mm256_max_pd(_mm256_and_pd(top, nonzero), lowest);
    __m256d products[kMostProducts];
    __m256d plain = sum_so_far;  // not finite exactly where an addend is not
    for (u32 i = 0; i < count; ++i) {
      const size_t at = first + i, b = at * f.step;
      products[i] = _mm256_mul_pd(_mm256_broadcast_sd(f.a + at), _mm256_loadu_pd(f.b + b));
      top = _mm256_max_pd(top, _mm256_mul_pd(_mm256_broadcast_sd(f.a_powers + at),
                                             _mm256_loadu_pd(f.b_powers + b)));
      plain = _mm256_add_pd(plain, products[i]);
    }
    // Multiples of the last bit kept are whole numbers; in double their sum is exact.
    const __m256d scale = _mm256_div_pd(kept, top);
    const auto cut = [&](__m256d x) { return _mm256_round_pd(_mm256_mul_pd(x, scale), kTruncate); };
    __m256d sum = _mm256_add_pd(zero, cut(sum_so_far));
    for (u32 i = 0; i < count; ++i) sum = _mm256_add_pd(sum, cut(products[i]));
    sum = _mm256_mul_pd(sum, _mm256_div_pd(top, kept));
    result = half ? to_half_nearest(sum) : _mm_and_ps(toward_zero(sum), _mm_castsi128_ps(fraction));
    const __m256d spoiled = _mm256_cmp_pd(_mm256_sub_pd(plain, plain), zero, _CMP_NEQ_UQ);
    if (_mm256_movemask_pd(spoiled) == 0) continue;
    alignas(32) double special[4];
    alignas(16) float r[4];
    _mm256_store_pd(special, plain);
    _mm_store_ps(r, result);
    for (int i = 0; i < 4; ++i)
      if (!std::isfinite(special[i])) r[i] = canonical(static_cast<float>(special[i]));
    result = _mm_load_ps(r);
  }
  _mm_storeu_ps(out, result);
}

}  // namespace vgpu
