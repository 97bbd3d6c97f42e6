#include "async/wgmma_tile.h"

#include <immintrin.h>

#include <array>

#include "common/minifloat.h"

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

float wgmma_element(Type type, u32 raw) {
  switch (type) {
    case Type::kF16:
      return half_to_float(static_cast<u16>(raw));
    case Type::kBf16:
      return bf16_to_float(static_cast<u16>(raw));
    case Type::kTf32:
      return bits<float>(raw & 0xffffe000u);  // the low 13 bits are ignored
    case Type::kS8:
      return static_cast<i8>(raw);
    case Type::kU8:
      return static_cast<u8>(raw);
    case Type::kB1:
      return static_cast<float>(raw & 1);
    default: {
      static const auto tables = [] {
        std::array<std::array<float, 256>, 2> t{};
        for (u32 i = 0; i < 256; ++i) {
          t[0][i] = static_cast<float>(decode(kE4m3, i));
          t[1][i] = static_cast<float>(decode(kE5m2, i));
        }
        return t;
      }();
      return tables[type == Type::kE5m2 ? 1 : 0][raw & 255];
    }
  }
}

void unit_to_floats(Type type, const u8* unit, float* out) {
  if (type == Type::kF16) {
    _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(unit))));
    return;
  }
  const u32 count = elements_per_unit(type);
  for (u32 i = 0; i < count; ++i) {
    u32 raw = 0;
    if (count == 128) {
      raw = static_cast<u32>(unit[i / 8] >> (i % 8));
    } else {
      std::memcpy(&raw, unit + i * (16 / count), 16 / count);
    }
    out[i] = wgmma_element(type, raw);
  }
}

void TileB::build(Type new_type, bool new_mn_major, bool new_negated, u32 new_columns,
                  const std::vector<u8>& new_raw) {
  if (type == new_type && mn_major == new_mn_major && negated == new_negated &&
      columns == new_columns && raw == new_raw)
    return;  // another warp of the warpgroup had the same
  type = new_type;
  mn_major = new_mn_major;
  negated = new_negated;
  columns = new_columns;
  raw = new_raw;
  const u32 per_unit = elements_per_unit(type), k = 2 * per_unit;
  values.resize(size_t{columns} * k);
  float unit[128];
  const u8* from = raw.data();
  const auto place = [&](u32 column, u32 row) {
    return &values[((size_t{column / 8} * k + row) * 2 + column % 2) * 4 + column % 8 / 2];
  };
  for (u32 i = 0; i < 2 * columns; ++i, from += 16) {
    unit_to_floats(type, from, unit);
    if (negated)
      for (u32 e = 0; e < per_unit; ++e) unit[e] = -unit[e];
    if (mn_major) {
      for (u32 e = 0; e < 8; ++e) *place(i / 16 * 8 + e, i % 16) = unit[e];
    } else {
      float* to = place(i / 2, i % 2 * per_unit);
      for (u32 e = 0; e < per_unit; ++e) to[size_t{8} * e] = unit[e];
    }
  }
}

void TileA::resize(u32 new_k) {
  k = new_k;
  values.resize(size_t{64} * k);
  undefined = 0;
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

void multiply(const TileA& a, const TileB& b, std::vector<float>& out) {
  const u32 k = a.k, blocks = b.columns / 8;
  out.resize(size_t{blocks} * 4 * kLanes);
  for (u32 j = 0; j < blocks; ++j) {
    for (u32 h = 0; h < 2; ++h) {
      const float* pa = a.values.data() + size_t{h} * k * 32;
      const float* pb = b.values.data() + size_t{j} * k * 8;
      __m256 sum[2][4];
      for (auto& parity : sum)
        for (__m256& s : parity) s = _mm256_setzero_ps();
      for (u32 i = 0; i < k; ++i, pa += 32, pb += 8) {
        const __m256 even = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(pb));
        const __m256 odd = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(pb + 4));
        for (int v = 0; v < 4; ++v) {
          const __m256 rows = _mm256_loadu_ps(pa + 8 * v);
          sum[0][v] = _mm256_fmadd_ps(rows, even, sum[0][v]);
          sum[1][v] = _mm256_fmadd_ps(rows, odd, sum[1][v]);
        }
      }
      float* to = out.data() + size_t{4 * j + 2 * h} * kLanes;
      for (const auto& parity : sum) {
        for (const __m256& s : parity) {
          _mm256_storeu_ps(to, s);
          to += 8;
        }
      }
    }
  }
}

}  // namespace vgpu
