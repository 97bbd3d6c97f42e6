// Additive scores of a block of keys on tensor cores: S = sum_d w_d tanh(q_d + k_d) as the product
// of series.h. A warp makes the features of its rows in registers, as the A operand of mma.sync;
// all warps together those of the keys, in shared memory.
//
// The inner index of a product goes through 4 dims, sine and cosine, and two harmonics. With t =
// lane % 4 a lane holds of A and B the columns 2 t, 2 t + 1, 2 t + 8, 2 t + 9, which are sine and
// cosine of dim t in harmonics n and n + 1: it needs the features of one dim.
#pragma once

#include <cstdint>

#include "kernels/attention/sm80_additive/features.cuh"
#include "kernels/attention/sm80_additive/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/swizzled_tile.cuh"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma.h"
#include "kernels/ptx/opaque.h"
#include "kernels/ptx/tanh.h"

namespace qkv::kernels {

template <Type kType, int kDim, bool kRules>
struct AdditiveScores {
  using T = Element<kType>;

  static constexpr Sm80AdditivePolicy kPolicy = sm80_additive_policy(kDim, kRules);
  static constexpr int kTileQ = kPolicy.tile_q;
  static constexpr int kTileKv = kPolicy.tile_kv;
  static constexpr int kWarps = kSm80AdditiveThreads / 32;
  static constexpr int kM = kTileQ / kWarps / 16;  // 16-row fragments of a warp
  static constexpr int kN = kTileKv / 8;           // 8-key fragments of S
  static_assert(kPolicy.max_dim == kDim && kTileQ % (16 * kWarps) == 0 && kTileKv % 16 == 0);
  static_assert(kSeriesHarmonics % 2 == 0 && kSm80AdditiveChunk == 8);

  using QTile = SwizzledTile<T, kTileQ, kDim, kSm80AdditiveThreads>;
  using VTile = SwizzledTile<T, kTileKv, kDim, kSm80AdditiveThreads>;
  using Features = FeatureChunk<kTileKv>;
  static_assert(Features::kBytes == sm80_additive_chunk_bytes(kPolicy));

  // Which keys of a chunk are out of the series' range: bit x of word [group][n] is key 8 n + x.
  using Marks = uint32_t[2][kN];
  static_assert(sizeof(Marks) == sm80_additive_mark_bytes(kPolicy));

  // Shared memory: Q, V, features and marks of two chunks, weights; addresses from `base` on.
  static constexpr uint32_t kFeatures = QTile::kBytes + VTile::kBytes;
  static constexpr uint32_t kMarks = kFeatures + kSm80AdditiveStages * Features::kBytes;
  static constexpr uint32_t kWeights = kMarks + kSm80AdditiveStages * sizeof(Marks);
  static_assert(kWeights + 4 * kDim == sm80_additive_smem_bytes(kPolicy));

  unsigned char* smem;
  uint32_t base;     // its shared address
  const T* gK;       // of the batch and head
  int64_t k_row;     // its rows' stride
  int32_t length;    // keys from here on are not read
  int32_t warp_row;  // the warp's first row of the tile

  __device__ float* weights() const { return reinterpret_cast<float*>(smem + kWeights); }
  __device__ Marks& marks(int stage) const {
    return *reinterpret_cast<Marks*>(smem + kMarks + stage * sizeof(Marks));
  }

  // The weights of a head, multiplied by a power of two and 0 past d_qk, into shared memory.
  // Returns what scores are to be multiplied by for it.
  __device__ float load_weights(const ForwardArgs& args, int head, int lane) const {
    const float* gW =
        static_cast<const float*>(args.additive_weight.data) + head * args.additive_weight.head;
    float w[kDim / 32];
#pragma unroll
    for (int n = 0; n < kDim / 32; ++n) w[n] = lane + n * 32 < args.d_qk ? gW[lane + n * 32] : 0.0f;
    const int exponent = weight_exponent(w);
    if (warp_row == 0)
#pragma unroll
      for (int n = 0; n < kDim / 32; ++n) weights()[lane + n * 32] = w[n] * power_of_two(exponent);
    return power_of_two(-exponent);
  }

  // What a thread makes of a chunk: the features of one dim of one key of every other octet.
  static constexpr int kOwn = kN / 2;
  static __device__ int thread() { return ptx::opaque(static_cast<int>(threadIdx.x)); }
  static __device__ int own_group(int thread) { return thread / 32 % 2; }
  static __device__ int own_octet(int thread, int n) { return thread / 64 + 2 * n; }

  // A thread's elements of K, of keys from j0 on, in the chunk at dim d0; 0 past the length.
  __device__ void load_keys(T (&own)[kOwn], int j0, int d0) const {
    const int thread = AdditiveScores::thread(), lane = thread % 32;
    const T* from = gK + d0 + own_group(thread) * 4 + lane % 4;
#pragma unroll
    for (int n = 0; n < kOwn; ++n) {
      const int key = j0 + own_octet(thread, n) * 8 + lane / 4;
      own[n] = from_float<T>(0);
      if (key < length) own[n] = from[key * k_row];
    }
  }

  // Their features and marks. A key out of range has features of 0.
  __device__ void make_features(const T (&own)[kOwn], int stage) const {
    const int thread = AdditiveScores::thread(), lane = thread % 32;
    const int group = own_group(thread);
#pragma unroll
    for (int n = 0; n < kOwn; ++n) {
      const int octet = own_octet(thread, n);
      float x = to_float(own[n]), factor = 1;
      const uint32_t out = __ballot_sync(0xffffffffu, !in_series_range(x));
      uint32_t keys = 0;
      if (out != 0) {
        keys = quads(out);
        if ((keys >> lane / 4 & 1) != 0) x = 0, factor = 0;
      }
      if (lane == 0) marks(stage)[group][octet] = keys;
      Sines sines;
      sines.begin(x, factor);
      unsigned char* to = smem + kFeatures + stage * Features::kBytes + lane % 4 * 4 +
                          Features{0}.at(group, octet * 8 + lane / 4);
#pragma unroll
      for (int h = 0; h < kSeriesHarmonics; ++h) {
        const float a = series_amplitude(h);
        *reinterpret_cast<uint32_t*>(to + h * Features::kHarmonicBytes) =
            pack<__half>(a * sines.cos, a * sines.sin);
        if (h + 1 < kSeriesHarmonics) sines.advance();
      }
    }
  }

  // Bit n of the result: one of lanes 4 n to 4 n + 3 has its bit.
  static __device__ uint32_t quads(uint32_t lanes) {
    uint32_t out = 0;
#pragma unroll
    for (int n = 0; n < 8; ++n) out |= (lanes >> 4 * n & 15) != 0 ? 1u << n : 0u;
    return out;
  }

  // The address of dim d of a lane's row.
  __device__ const unsigned char* q_at(int m, int half, int lane, int d) const {
    const int row = warp_row + m * 16 + half * 8 + lane / 4;
    return smem + QTile{0}.at(row, d / 8) + d % 8 * 2;
  }

  // The features of a lane's rows in one dim, harmonic by harmonic.
  struct Rows {
    Sines sines[kM][2];
    uint32_t out;  // bit 2 m + half: the row is out of the series' range in these 4 dims
  };

  // Those of the 4 dims from d on. A row out of range has features of 0.
  __device__ void begin(Rows& rows, int d, int lane) const {
    const float weight = weights()[d + lane % 4];
    const bool no_weight = !(fabsf(weight) < INFINITY);
    float x[kM][2];
    bool out = no_weight;
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        x[m][half] = to_float(*reinterpret_cast<const T*>(q_at(m, half, lane, d + lane % 4)));
        out = out || !in_series_range(x[m][half]);
      }
    float factor[kM][2];
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) factor[m][half] = weight;
    rows.out = 0;
    if (__any_sync(0xffffffffu, out)) {
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const bool mine = no_weight || !in_series_range(x[m][half]);
          const uint32_t lanes = __ballot_sync(0xffffffffu, mine);
          if ((lanes >> lane / 4 * 4 & 15) == 0) continue;
          rows.out |= 1u << (2 * m + half);
          x[m][half] = 0, factor[m][half] = 0;
        }
    }
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) rows.sines[m][half].begin(x[m][half], factor[m][half]);
  }

  // A row's part of the next A operand: two harmonics.
  static __device__ void take(Rows& rows, uint32_t (&a)[kM][4], int row) {
    const int m = row / 2, half = row % 2;
    Sines& sines = rows.sines[m][half];
    a[m][half] = pack<__half>(sines.sin, sines.cos);
    sines.advance();
    a[m][2 + half] = pack<__half>(sines.sin, sines.cos);
    sines.advance();
  }

  // The first A operand of the 4 dims from d on.
  __device__ void first(Rows& rows, uint32_t (&a)[kM][4], int d, int lane) const {
    begin(rows, d, lane);
#pragma unroll
    for (int row = 0; row < 2 * kM; ++row) take(rows, a, row);
  }

  // rS += the scores over the 4 dims from d on, of the warp's rows and the keys from j0 on. `rows`
  // and `a` have these dims' first operand, and in the end that of the dims from `next_d` on. An
  // operand is made beside the products of the one before.
  __device__ void add_group(float (&rS)[kM][kN][4], Rows& rows, uint32_t (&a)[kM][4], int j0, int d,
                            int next_d, int stage, int lane) const {
    constexpr int kPairs = kN / 2, kRows = 2 * kM;
    const int group = d / 4 % 2;
    const uint32_t out_rows = rows.out;
    const uint32_t out_keys = lane < kN ? marks(stage)[group][lane] : 0;
    const uint32_t k0 = base + kFeatures + static_cast<uint32_t>(stage * Features::kBytes) +
                        Features{0}.at(group, lane / 16 * 8 + lane % 8) +
                        static_cast<uint32_t>(lane / 8 % 2 * Features::kHarmonicBytes);
    // The B operand `step`: a pair of octets of keys, in two harmonics.
    uint32_t ks[2][4];
    const auto load = [&](int step) {
      ptx::ldmatrix_x4(ks[step % 2], k0 + step / kPairs * 2 * Features::kHarmonicBytes +
                                         step % kPairs * 2 * 8 * 16);
    };
    load(0);
#pragma unroll
    for (int h = 0; h < kSeriesHarmonics; h += 2) {
      const bool last = h + 2 == kSeriesHarmonics;
      uint32_t next[kM][4];
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const int n = 2 * pair;
        const int step = h / 2 * kPairs + pair;
        if (step + 1 < kSeriesHarmonics / 2 * kPairs) load(step + 1);
        const uint32_t(&k)[4] = ks[step % 2];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          ptx::mma_m16n8k16<__half>(rS[m][n], a[m], k[0], k[1]);
          ptx::mma_m16n8k16<__half>(rS[m][n + 1], a[m], k[2], k[3]);
        }
        if (last && pair == 0) begin(rows, next_d, lane);
        const int from = last ? 1 : 0;  // the first pair with rows beside it
        if (pair < from) continue;
#pragma unroll
        for (int row = 0; row < kRows; ++row)
          if (row * (kPairs - from) / kRows == pair - from) take(rows, next, row);
      }
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int n = 0; n < 4; ++n) a[m][n] = next[m][n];
    }
    if (__any_sync(0xffffffffu, (out_rows | out_keys) != 0))
      add_tanh(rS, j0, d, out_rows, out_keys, lane);
  }

  // rS += w tanh(q + k) over the 4 dims from d on, for the pairs of which one is out of range.
  __device__ void add_tanh(float (&rS)[kM][kN][4], int j0, int d, uint32_t rows, uint32_t keys,
                           int lane) const {
    const float4 w = *reinterpret_cast<const float4*>(weights() + d);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const uint32_t octet = __shfl_sync(0xffffffffu, keys, n);
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        const bool key_out = (octet >> (lane % 4 * 2 + x) & 1) != 0;
        const int key = j0 + n * 8 + lane % 4 * 2 + x;
        if ((!key_out && rows == 0) || key >= length) continue;
        float k[4];
        load4(k, gK + key * k_row + d);
#pragma unroll
        for (int m = 0; m < kM; ++m)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            if (!key_out && (rows >> (2 * m + half) & 1) == 0) continue;
            float q[4];
            load4(q, q_at(m, half, lane, d));
            float& s = rS[m][n][half * 2 + x];
            s = fmaf(w.x, ptx::tanh_approx(q[0] + k[0]), s);
            s = fmaf(w.y, ptx::tanh_approx(q[1] + k[1]), s);
            s = fmaf(w.z, ptx::tanh_approx(q[2] + k[2]), s);
            s = fmaf(w.w, ptx::tanh_approx(q[3] + k[3]), s);
          }
      }
    }
  }

  // Four elements at an 8-byte aligned address.
  static __device__ void load4(float (&x)[4], const void* from) {
    const uint2 bits = *static_cast<const uint2*>(from);
    const T* elements = reinterpret_cast<const T*>(&bits);
#pragma unroll
    for (int n = 0; n < 4; ++n) x[n] = to_float(elements[n]);
  }
};

}  // namespace qkv::kernels
