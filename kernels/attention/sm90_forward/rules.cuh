// From scaled dot products to the scores that the softmax sees: softcap, bias, ALiBi and mask, in
// this order and in fp32, as core/score.cuh has it, for the scores that a lane of a math warpgroup
// holds. Of every 8 keys a lane has two neighbours, of two rows. Where a mask or bias lies so that
// two neighbours come with one load, and the rows see every key of the block, the block's part of
// it is on its way while the tensor cores compute Q K^T.
#pragma once

#include <cstdint>

#include "kernels/attention/sm90_forward/args.h"
#include "kernels/attention/sm90_forward/shared.cuh"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"

namespace qkv::kernels {

template <class T, int kTileKv>
class Sm90Rules {
 public:
  // What a lane loads ahead of a block's scores, of both rows: of the bias, or of the mask where
  // there is no bias, the two neighbours of 8 keys at a time. Registers do not suffice for both.
  using Ahead = uint32_t[2][kTileKv / 8];

  __device__ explicit Sm90Rules(const Sm90ForwardArgs& args) : args_(args) {}

  // For the rows of a tile that begin at `row` (the lane's first) and 8 behind it; those past the
  // last see no key, and read what belongs to the last one.
  template <class Work>
  __device__ void begin_tile(const Work& work, int row, int lane) {
    const WorkTile at = work.tile;
    const ForwardArgs& forward = args_.forward;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int in_tile = at.row + min(row + half * 8, at.rows - 1);
      const int i = args_.schedule.query(in_tile);
      const int head = at.head + args_.schedule.member(in_tile, i);
      const int first_key = lane % 4 * 2;
      bias_[half] = start(forward.bias, forward.bias_f32 ? 4 : 2, at.batch, head, i, first_key);
      mask_[half] = start(forward.mask, 1, at.batch, head, i, first_key);
      slope_[half] = 0;
      if (const Tensor& slopes = forward.alibi_slopes; slopes.data != nullptr)
        slope_[half] =
            static_cast<const float*>(slopes.data)[at.batch * slopes.batch + head * slopes.head];
      distance_[half] = static_cast<int>(i + work.mask.offset - first_key);
    }
  }

  // For a block of which the rows see all keys.
  __device__ void load(Ahead& ahead, int key) const {
    if (has(kSm90BiasPairs))
      load_pairs<uint32_t>(ahead, bias_, key);
    else if (has(kSm90MaskPairs))
      load_pairs<uint16_t>(ahead, mask_, key);
  }

  // Such a block's scores.
  template <int kScores>
  __device__ void apply(float (&rS)[kScores], Ahead& ahead, int key) const {
    const bool beside = has(kSm90Alibi) && __any_sync(0xffffffffu, near(0, key) || near(1, key));
    if (beside || has(kSm90Softcap | kSm90BiasOneByOne | kSm90MaskOneByOne)) {
      const KeyRange all[2] = {{INT32_MIN, INT32_MAX}, {INT32_MIN, INT32_MAX}};
      apply_one_by_one<kTileKv>(rS, all, key, 0);
      return;
    }
    const float scale = args_.forward.scale;
    if (has(kSm90Alibi)) {
      // The keys are all before a row's query or all behind it.
      float slope[2], first[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        slope[half] = distance_[half] - key > 0 ? slope_[half] : -slope_[half];
        first[half] = at_first_key(slope[half], half, key);
      }
      each<kTileKv>(rS, [&](float& s, int half, int n) {
        s = with_alibi(s, scale, slope[half], first[half], n);
      });
    }
    if (has(kSm90BiasPairs)) {
      const float factor = has(kSm90Alibi) ? 1 : scale;
      each<kTileKv>(rS, [&](float& s, int half, int n) {
        const auto pair = reinterpret_cast<const Pair&>(ahead[half][n / 8]);
        s = with_bias(s, factor, to_float(n % 2 == 0 ? pair.x : pair.y));
      });
    }
    if (has(kSm90MaskPairs)) {
      if (has(kSm90BiasPairs)) load_pairs<uint16_t>(ahead, mask_, key);
      each<kTileKv>(rS, [&](float& s, int half, int n) {
        if ((ahead[half][n / 8] & (n % 2 == 0 ? 0xff : 0xff00)) == 0) s = -INFINITY;
      });
    }
  }

  // The scores of any block, key by key, with the same bits as by apply(): which of them a row's
  // block takes depends on its neighbours. `lane_key` is the lane's first of 8.
  template <int kKeys, int kScores>
  __device__ void apply_one_by_one(float (&rS)[kScores], const KeyRange (&visible)[2], int key,
                                   int lane_key) const {
    const ForwardArgs& forward = args_.forward;
    const bool alibi = has(kSm90Alibi), biased = has(kSm90BiasPairs | kSm90BiasOneByOne);
    const float softcap = forward.softcap, inverse = softcap > 0 ? forward.scale / softcap : 0;
    const float factor = softcap > 0 ? 1 : forward.scale;
    const int64_t bias_col = forward.bias.col, mask_col = forward.mask.col;
    each<kKeys>(rS, [&](float& s, int half, int n) {
      const int j = key + n;
      const bool sees =
          j + lane_key >= visible[half].begin && j + lane_key < visible[half].end &&
          (!has(kSm90MaskPairs | kSm90MaskOneByOne) || mask_[half][j * mask_col] != 0);
      if (softcap > 0) s = softcap * tanhf(s * inverse);
      if (alibi) {
        const float slope = distance_[half] - j > 0 ? slope_[half] : -slope_[half];
        s = with_alibi(s, factor, slope, at_first_key(slope, half, key), n);
      }
      if (biased && sees)
        s = with_bias(s, alibi ? 1 : factor,
                      forward.bias_f32
                          ? reinterpret_cast<const float*>(bias_[half])[j * bias_col]
                          : to_float(reinterpret_cast<const T*>(bias_[half])[j * bias_col]));
      if (!sees) s = -INFINITY;
    });
  }

  // Whether softcap, bias or ALiBi need scaled scores. With a mask alone they stay as they are.
  static __device__ bool scales_scores(const Sm90ForwardArgs& args) {
    return (args.rules & (kSm90Softcap | kSm90Alibi | kSm90BiasPairs | kSm90BiasOneByOne)) != 0;
  }

 private:
  struct alignas(4) Pair {
    T x, y;
  };
  // S factor - slope |distance|, linear on either side of the row's query: `slope` is negative
  // behind it, `first` the value at the lane's first key of the block.
  static __device__ float with_alibi(float s, float factor, float slope, float first, int n) {
    return fmaf(s, factor, fmaf(slope, static_cast<float>(n), first));
  }
  __device__ float at_first_key(float slope, int half, int key) const {
    return __fmul_rn(-slope, static_cast<float>(distance_[half] - key));
  }
  static __device__ float with_bias(float s, float factor, float bias) {
    return fmaf(s, factor, bias);
  }

  // Whether the block has keys on both sides of the row's query.
  __device__ bool near(int half, int key) const {
    return distance_[half] - key >= 0 && distance_[half] - key < kTileKv;
  }
  __device__ bool has(uint32_t rules) const { return (args_.rules & rules) != 0; }

  template <class TwoKeys>
  static __device__ void load_pairs(Ahead& ahead, const unsigned char* const (&rows)[2], int key) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int n = 0; n < kTileKv; n += 8)
        ahead[half][n / 8] = *reinterpret_cast<const TwoKeys*>(
            rows[half] + (key + n) * static_cast<int64_t>(sizeof(TwoKeys) / 2));
  }

  static __device__ const unsigned char* start(const PairTensor& t, int bytes, int batch, int head,
                                               int i, int key) {
    return static_cast<const unsigned char*>(t.data) +
           (batch * t.batch + head * t.head + i * t.row + key * t.col) * bytes;
  }

  template <int kKeys, int kScores, class Change>
  static __device__ void each(float (&rS)[kScores], Change&& change) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int n = 0; n < kKeys; n += 8)
#pragma unroll
        for (int x = 0; x < 2; ++x) change(rS[n / 2 + half * 2 + x], half, n + x);
  }

  const Sm90ForwardArgs& args_;
  // Of the lane's two rows, at its first key.
  const unsigned char *bias_[2], *mask_[2];
  float slope_[2];
  int distance_[2];  // of the query to that key
};

}  // namespace qkv::kernels
