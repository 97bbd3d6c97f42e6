#include "async/wgmma_tile.h"

#include <immintrin.h>

#include <array>

#include "common/minifloat.h"
#include "machine/tensor_sum.h"

namespace vgpu {

using ptx::Type;

MatrixDescriptor::MatrixDescriptor(u64 raw)
    : start(static_cast<u32>(raw & 0x3fff) << 4),
      leading(static_cast<u32>(raw >> 16 & 0x3fff) << 4),
      stride(static_cast<u32>(raw >> 32 & 0x3fff) << 4),
      base_offset(static_cast<u32>(raw >> 49 & 7)),
      swizzle(std::array<u32, 4>{16, 128, 64, 32}[raw >> 62]) {}

void unit_addresses(const MatrixDescriptor& d, bool mn_major, u32 first, u32 rows,
                    std::vector<u32>& out) {
  out.resize(size_t{2} * rows);
  u32* at = out.data();
  const bool plain = d.swizzle == 16;
  if (!mn_major) {
    const u32 second = plain ? d.leading : 16;  // from one half of K to the other
    for (u32 j = first / 8; j < (first + rows) / 8; ++j) {
      u32 linear = d.start + j * d.stride;
      for (u32 r = 0; r < 8; ++r, linear += d.swizzle) {
        *at++ = d.swizzled(linear);
        *at++ = d.swizzled(linear + second);
      }
    }
    return;
  }
  const u32 wide = d.swizzle / 16;  // units side by side in the pattern
  const u32 next_rows = plain ? d.stride : d.leading, next_k = plain ? d.leading : d.stride;
  for (u32 j = first / 8; j < (first + rows) / 8; ++j)
    for (u32 k = 0; k < 16; ++k)
      *at++ = d.swizzled(d.start + j / wide * next_rows + j % wide * 16 + k % 8 * d.swizzle +
                         k / 8 * next_k);
}

u32 elements_per_unit(Type type) {
  switch (type) {
    case Type::kF16:
    case Type::kBf16:
      return 8;
    case Type::kTf32:
      return 4;
    case Type::kB1:
      return 128;
    default:
      return 16;
  }
}

namespace {

using Fp8Table = std::array<float, 256>;
const Fp8Table& fp8_table(Type type) {
  static const auto tables = [] {
    std::array<Fp8Table, 2> t{};
    for (u32 i = 0; i < 256; ++i) {
      t[0][i] = static_cast<float>(decode(kE4m3, i));
      t[1][i] = static_cast<float>(decode(kE5m2, i));
    }
    return t;
  }();
  return tables[type == Type::kE5m2 ? 1 : 0];
}

// Sixteen small integers to floats.
template <class Widen>
void integers_to_floats(__m128i bytes, float* out, Widen widen) {
  _mm256_storeu_ps(out, _mm256_cvtepi32_ps(widen(bytes)));
  _mm256_storeu_ps(out + 8, _mm256_cvtepi32_ps(widen(_mm_srli_si128(bytes, 8))));
}

// Rows become columns.
void transpose(__m256 (&r)[8]) {
  __m256 s[8], t[8];
  for (int i = 0; i < 8; i += 2) {
    s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    t[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
    t[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
    t[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
    t[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
  }
}

}  // namespace

void unit_to_floats(Type type, const u8* unit, float* out) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(unit));
  switch (type) {
    case Type::kF16:
      _mm256_storeu_ps(out, _mm256_cvtph_ps(bytes));
      return;
    case Type::kBf16:
      _mm256_storeu_ps(out,
                       _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bytes), 16)));
      return;
    case Type::kTf32:  // the low 13 bits are ignored
      _mm_storeu_ps(out, _mm_castsi128_ps(
                             _mm_and_si128(bytes, _mm_set1_epi32(static_cast<int>(0xffffe000)))));
      return;
    case Type::kS8:
      integers_to_floats(bytes, out, [](__m128i b) { return _mm256_cvtepi8_epi32(b); });
      return;
    case Type::kU8:
      integers_to_floats(bytes, out, [](__m128i b) { return _mm256_cvtepu8_epi32(b); });
      return;
    case Type::kB1:
      for (u32 i = 0; i < 128; ++i) out[i] = static_cast<float>(unit[i / 8] >> (i % 8) & 1);
      return;
    default: {
      const Fp8Table& table = fp8_table(type);
      for (u32 i = 0; i < 16; ++i) out[i] = table[unit[i]];
    }
  }
}

void TileB::build(const Reading& new_reading, const std::vector<u8>& new_raw) {
  reading = new_reading;
  raw = new_raw;
  constexpr u32 kPlace[8] = {0, 2, 4, 6, 1, 3, 5, 7};  // of columns
  const u32 per_unit = elements_per_unit(reading.type), k = 2 * per_unit;
  const auto columns = static_cast<u32>(raw.size() / 32);
  values.resize(size_t{columns} * k);
  const u8* from = raw.data();
  const __m256 sign = _mm256_set1_ps(reading.negated ? -0.0f : 0.0f);
  for (u32 j = 0; j < columns / 8; ++j) {
    float* const to = &values[size_t{j} * 8 * k];
    if (reading.mn_major) {
      const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
      for (u32 i = 0; i < 16; ++i, from += 16) {
        float unit[8];
        unit_to_floats(reading.type, from, unit);
        const __m256 row = _mm256_permutevar8x32_ps(_mm256_loadu_ps(unit), order);
        _mm256_storeu_ps(to + size_t{8} * i, _mm256_xor_ps(row, sign));
      }
      continue;
    }
    alignas(32) float unit[8][256];
    for (u32 i = 0; i < 8; ++i, from += 32) {
      unit_to_floats(reading.type, from, unit[i]);
      unit_to_floats(reading.type, from + 16, unit[i] + per_unit);
    }
    for (u32 e = 0; e < k; e += 8) {
      __m256 rows[8];
      for (u32 i = 0; i < 8; ++i)
        rows[i] = _mm256_xor_ps(_mm256_load_ps(unit[kPlace[i]] + e), sign);
      transpose(rows);
      for (u32 i = 0; i < 8; ++i) _mm256_storeu_ps(to + size_t{8} * (e + i), rows[i]);
    }
  }
}

void TileA::build(const Reading& reading, const std::vector<u8>& raw) {
  const u32 per_unit = elements_per_unit(reading.type);
  k = 2 * per_unit;
  values.resize(size_t{16} * k);
  const auto place = [&](u32 row, u32 column) {
    return &values[(size_t{row / 4} * k + column) * 4 + row % 4];
  };
  float unit[128];
  for (u32 i = 0; i < 32; ++i) {
    unit_to_floats(reading.type, &raw[size_t{i} * 16], unit);
    if (reading.negated)
      for (u32 e = 0; e < per_unit; ++e) unit[e] = -unit[e];
    if (reading.mn_major) {
      for (u32 e = 0; e < 8; ++e) *place(i / 16 * 8 + e, i % 16) = unit[e];
    } else {
      float* const to = place(i / 2, i % 2 * per_unit);
      for (u32 e = 0; e < per_unit; ++e) to[size_t{4} * e] = unit[e];
    }
  }
}

void accumulate(const float* product, float* d, bool adds) {
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(kCanonicalNan)));
  for (int l = 0; l < kLanes; l += 8) {
    __m256 sum = _mm256_loadu_ps(product + l);
    if (adds) sum = _mm256_add_ps(sum, _mm256_loadu_ps(d + l));
    sum = _mm256_blendv_ps(sum, nan, _mm256_cmp_ps(sum, sum, _CMP_UNORD_Q));
    _mm256_storeu_ps(d + l, sum);
  }
}

namespace {

// Sixteen rows times `kBlocks` blocks of columns from the j-th on.
template <u32 kBlocks>
void multiply_blocks(const TileA& a, const TileB& b, u32 j, float* out) {
  const u32 k = a.k;
  for (u32 quad = 0; quad < 4; ++quad) {
    const float* pa = &a.values[size_t{quad} * 4 * k];
    const float* const pb = &b.values[size_t{j} * 8 * k];
    __m256 sum[kBlocks][4];
    for (auto& block : sum)
      for (__m256& s : block) s = _mm256_setzero_ps();
    for (u32 i = 0; i < k; ++i, pa += 4) {
      __m256 columns[kBlocks];
      for (u32 n = 0; n < kBlocks; ++n) columns[n] = _mm256_loadu_ps(pb + (size_t{n} * k + i) * 8);
      for (u32 row = 0; row < 4; ++row) {
        const __m256 element = _mm256_broadcast_ss(pa + row);
        for (u32 n = 0; n < kBlocks; ++n)
          sum[n][row] = _mm256_fmadd_ps(element, columns[n], sum[n][row]);
      }
    }
    for (u32 n = 0; n < kBlocks; ++n) {
      float* const to = out + size_t{4 * (j + n) + 2 * (quad / 2)} * kLanes + size_t{quad % 2} * 16;
      for (u32 pair = 0; pair < 2; ++pair) {
        const __m256 first = sum[n][2 * pair], second = sum[n][2 * pair + 1];
        _mm256_storeu_ps(to + size_t{8} * pair, _mm256_permute2f128_ps(first, second, 0x20));
        _mm256_storeu_ps(to + kLanes + size_t{8} * pair,
                         _mm256_permute2f128_ps(first, second, 0x31));
      }
    }
  }
}

}  // namespace

void multiply(const TileA& a, const TileB& b, std::vector<float>& out) {
  const auto blocks = static_cast<u32>(b.raw.size() / 256);
  out.resize(size_t{blocks} * 4 * kLanes);
  u32 j = 0;
  for (; j + 3 <= blocks; j += 3) multiply_blocks<3>(a, b, j, out.data());
  if (blocks - j == 2) multiply_blocks<2>(a, b, j, out.data());
  if (blocks - j == 1) multiply_blocks<1>(a, b, j, out.data());
}

void multiply_onto(const TensorSum& how, const TileA& a, const TileB& b, ptx::Type type_a,
                   bool half, std::vector<float>& out) {
  static thread_local std::vector<double> b_values, b_powers;
  const u32 k = a.k, blocks = static_cast<u32>(b.raw.size() / 256);
  b_values.resize(b.values.size());
  b_powers.resize(b.values.size());
  tensor_elements(b.reading.type, b.values.data(), b.values.size(), b_values.data(),
                  b_powers.data());
  float elements[64];
  double row_values[64], row_powers[64];
  for (u32 row = 0; row < 16; ++row) {
    for (u32 i = 0; i < k; ++i) elements[i] = a.values[(size_t{row / 4} * k + i) * 4 + row % 4];
    tensor_elements(type_a, elements, k, row_values, row_powers);
    for (u32 j = 0; j < blocks; ++j) {
      for (u32 parity = 0; parity < 2; ++parity) {
        const size_t from = size_t{j} * k * 8 + size_t{4} * parity;
        float* const to =
            &out[size_t{4 * j + 2 * (row / 8) + parity} * kLanes + size_t{4} * (row % 8)];
        add_products(how, {row_values, row_powers, &b_values[from], &b_powers[from], 8, k}, half,
                     to, to);
      }
    }
  }
}

}  // namespace vgpu
