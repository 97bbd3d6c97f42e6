// simt_general: all of the contract on plain CUDA cores, for what no faster kernel takes. Dot or
// additive scores; softcap, bias, ALiBi, any mask; soft, hard or top-k selection; LSE, index,
// top_scores and weights; any d_qk and d_v.
//
// One block computes kTileQ query rows of one (batch, head) and, under soft selection, one slice of
// O's columns. It walks over the keys that at least one of its rows sees, kTileKv at a time, and
// hands their scores to the selection. Attention weights are written in a second pass, over all
// keys, by the block of the first slice: it computes the same scores, bit for bit, and knows m and
// l.
//
// Contract (qkv.h has the rest): elements need no alignment but their own; keys at or past the
// length are never read, nor are mask and bias there, but K for a weights output of unmasked
// scores, which has all keys; Q is read until O is written, for weights after it; P is rounded to
// the element type before P V, l sums the unrounded weights, O is rounded once; a row without a
// score above -inf gives O = +0, LSE = -inf and index -1. No atomics: the result depends on the
// arguments alone.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/attention/simt_general/policy.h"
#include "kernels/attention/simt_general/top_k.cuh"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/score.cuh"
#include "kernels/core/simt_tile.cuh"

namespace qkv::kernels {

// A block's tile of query rows, and how it scores keys.
template <Type kElementType, Score kScore>
struct GeneralTile {
  static constexpr Type kType = kElementType;
  using T = Element<kType>;
  static constexpr int kTileQ = kSimtGeneralTileQ, kTileKv = kSimtGeneralTileKv;
  using Tile = SimtTile<T, kSimtGeneralThreads, kTileQ, kTileKv>;
  static constexpr int kLanes = Tile::kLanes, kRows = Tile::kRows, kKeys = Tile::kKeys;
  static constexpr int kChunk = Tile::kChunk;

  struct WithWeight : Tile::Smem {
    float w[kChunk];  // a chunk of the additive weight
  };
  using Smem = std::conditional_t<kScore == Score::kAdditive, WithWeight, typename Tile::Smem>;

  const ForwardArgs& args;
  Smem& smem;
  int slice, i0, head, batch;
  int rows;        // of the tile that exist
  int lane, row0;  // this thread's lane of its rows, and the first of these
  const T *gQ, *gK, *gV;
  const float* gW;
  bool q_aligned, k_aligned, v_aligned;
  KeyMask mask;
  ScoreRules<T> rules;
  float slope;

  static __device__ GeneralTile of_block(const ForwardArgs& args, Smem& smem, unsigned slices) {
    // The last query tiles see most keys under a causal mask: they start first.
    const unsigned tiles = (static_cast<unsigned>(args.s_q) + kTileQ - 1) / kTileQ;
    const unsigned heads = static_cast<unsigned>(args.heads_q);
    const unsigned tile = blockIdx.x / slices;
    return GeneralTile(args, smem, static_cast<int>(blockIdx.x % slices),
                       static_cast<int>(tiles - 1 - tile % tiles) * kTileQ,
                       static_cast<int>(tile / tiles % heads),
                       static_cast<int>(tile / tiles / heads));
  }

  __device__ GeneralTile(const ForwardArgs& args, Smem& smem, int slice, int i0, int head,
                         int batch)
      : args(args),
        smem(smem),
        slice(slice),
        i0(i0),
        head(head),
        batch(batch),
        rows(min(kTileQ, args.s_q - i0)),
        lane(threadIdx.x % kLanes),
        row0(static_cast<int>(threadIdx.x) / kLanes * kRows),
        mask(key_mask(args, batch)),
        rules(args, mask, batch, head),
        slope(rules.slope(0)) {
    const int head_kv = head / (args.heads_q / args.heads_kv);
    gQ = static_cast<const T*>(args.q.data) + batch * args.q.batch + head * args.q.head +
         i0 * args.q.row;
    gK = static_cast<const T*>(args.k.data) + batch * args.k.batch + head_kv * args.k.head;
    gV = static_cast<const T*>(args.v.data) + batch * args.v.batch + head_kv * args.v.head;
    gW = static_cast<const float*>(args.additive_weight.data) + head * args.additive_weight.head;
    q_aligned = Tile::aligned(args.q, args.d_qk);
    k_aligned = Tile::aligned(args.k, args.d_qk);
    v_aligned = Tile::aligned(args.v, args.d_v);
  }

  // rS += w . tanh(Q + K) over one chunk of `cols` dims.
  __device__ void add_additive(float (&rS)[kRows][kKeys], int cols) const {
#pragma unroll 1
    for (int d = 0; d < cols; ++d) {
      const float w = smem.w[d];
      float k[kKeys];
#pragma unroll
      for (int j = 0; j < kKeys; ++j) k[j] = smem.kv[lane + j * kLanes][d];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float q = smem.qp[row0 + r][d];
#pragma unroll
        for (int j = 0; j < kKeys; ++j) rS[r][j] = fmaf(w, tanhf(q + k[j]), rS[r][j]);
      }
    }
  }

  // rS = scale * score(Q, K) for keys [j0, j0 + keys); beyond them K is taken as 0.
  __device__ void score(float (&rS)[kRows][kKeys], int j0, int keys) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kKeys; ++j) rS[r][j] = 0;
    for (int d0 = 0; d0 < args.d_qk; d0 += kChunk) {
      const int cols = min(kChunk, args.d_qk - d0);
      __syncthreads();  // all warps have read what is overwritten: Q and K, P and V, or O
      Tile::load(smem.qp, gQ + d0, args.q.row, rows, cols, q_aligned);
      Tile::load(smem.kv, gK + j0 * args.k.row + d0, args.k.row, keys, cols, k_aligned);
      if constexpr (kScore == Score::kAdditive) {
        if (static_cast<int>(threadIdx.x) < cols) smem.w[threadIdx.x] = gW[d0 + threadIdx.x];
      }
      __syncthreads();  // Q and K are there
      if constexpr (kScore == Score::kDot)
        Tile::multiply_qk(rS, smem, row0, lane, cols);
      else
        add_additive(rS, cols);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kKeys; ++j) rS[r][j] *= args.scale;
  }

  // rS = the scores that the selection sees: -inf where masked, and in rows past the last.
  __device__ void apply_rules(float (&rS)[kRows][kKeys], int j0) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int i = i0 + row0 + r;
      const KeyRange range = row0 + r < rows ? mask.keys(i) : KeyRange{0, 0};
#pragma unroll
      for (int j = 0; j < kKeys; ++j) {
        const int key = j0 + lane + j * kLanes;
        rS[r][j] = rules.visible(range, i, key)
                       ? rules.biased(rules.softcapped(rS[r][j]), slope, i, key)
                       : -INFINITY;
      }
    }
  }

  // Calls visit(r, offset) for each row of this thread that exists; `t` at it is data + offset.
  template <class Visit>
  __device__ void each_row(const Tensor& t, Visit&& visit) const {
    const int64_t first = batch * t.batch + head * t.head + i0 * t.row;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (row0 + r < rows) visit(r, first + (row0 + r) * t.row);
  }
};

// o_i = sum p_ij v_j. Invariant after each tile of keys, per row: m = max s; the lanes' l add up to
// sum P, P = e^(s - m) 2^carry; rO = sum P V.
template <class Tile>
struct SoftSelection {
  using T = typename Tile::T;
  using Simt = typename Tile::Tile;
  static constexpr int kRows = Tile::kRows, kKeys = Tile::kKeys, kLanes = Tile::kLanes;
  static constexpr int kChunk = Simt::kChunk, kCols = Simt::kCols;
  static constexpr int kChunks = kSimtGeneralSlice / kChunk;

  OnlineSoftmax<softmax_carry(Tile::kType)> softmax[kRows];
  float rO[kRows][kChunks * kCols] = {};

  __device__ explicit SoftSelection(const TopKArgs&) {}

  // One more tile of keys: `keys` scores from key j0 on.
  __device__ void update(const Tile& tile, float (&rS)[kRows][kKeys], int j0, int keys) {
    __syncthreads();  // all warps have read Q and K: P and V may overwrite them
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float s_max = -INFINITY;
#pragma unroll
      for (int j = 0; j < kKeys; ++j) s_max = fmaxf(s_max, rS[r][j]);
      const float rescale = softmax[r].raise(Simt::reduce_row(s_max, fmaxf), kLog2E);
#pragma unroll
      for (int j = 0; j < kKeys; ++j) {
        const float p = softmax[r].weight(rS[r][j], kLog2E);
        softmax[r].l += p;
        tile.smem.qp[tile.row0 + r][tile.lane + j * kLanes] = round_to<T>(p);
      }
#pragma unroll
      for (int c = 0; c < kChunks * kCols; ++c) rO[r][c] *= rescale;
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int d0 = tile.slice * kSimtGeneralSlice + c * kChunk;
      if (d0 >= tile.args.d_v) break;
      if (c > 0) __syncthreads();  // all warps have read V of the chunk before
      Simt::load(tile.smem.kv, tile.gV + j0 * tile.args.v.row + d0, tile.args.v.row, keys,
                 tile.args.d_v - d0, tile.v_aligned);
      __syncthreads();  // P and V are there
      Simt::multiply_pv(rO, c * kCols, tile.smem, tile.row0, tile.lane, keys);
    }
  }

  // From a lane's own keys to the whole row, once all keys are seen.
  __device__ void reduce_lanes() {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      softmax[r].l = Simt::reduce_row(softmax[r].l, [](float a, float b) { return a + b; });
  }

  __device__ void write_o(const Tile& tile) {
    const int rows = tile.rows;
    T* gO = static_cast<T*>(tile.args.o.data) + tile.batch * tile.args.o.batch +
            tile.head * tile.args.o.head + tile.i0 * tile.args.o.row;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int d0 = tile.slice * kSimtGeneralSlice + c * kChunk;
      if (d0 >= tile.args.d_v) break;
      __syncthreads();  // all warps have read P, or stored the chunk before
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float inverse = 1 / softmax[r].l;
        const bool empty = softmax[r].empty();
        float o[kCols];
#pragma unroll
        for (int x = 0; x < kCols; ++x) o[x] = empty ? 0 : rO[r][c * kCols + x] * inverse;
        Simt::float4_at(&tile.smem.qp[tile.row0 + r][tile.lane * kCols]) =
            make_float4(o[0], o[1], o[2], o[3]);
      }
      __syncthreads();  // the chunk of O is there
      Simt::store(tile.smem.qp, gO + d0, tile.args.o.row, rows, tile.args.d_v - d0);
    }
  }

  __device__ float lse(int r) const { return softmax[r].lse(kLog2E); }
  __device__ int index(int) const { return -1; }
  __device__ float probability(int r, float s, int) const {
    return softmax[r].empty() ? 0 : softmax[r].weight(s, kLog2E) / softmax[r].l;
  }
};

// o_i = v_j with the best score. NaN beats every number, the lowest j wins ties, -inf never wins.
template <class Tile>
struct HardSelection {
  using T = typename Tile::T;
  static constexpr int kRows = Tile::kRows, kKeys = Tile::kKeys, kLanes = Tile::kLanes;

  float best[kRows];
  int at[kRows];

  __device__ explicit HardSelection(const TopKArgs&) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) best[r] = -INFINITY, at[r] = -1;
  }

  static __device__ bool beats(float s, float than) { return s > than || (s != s && than == than); }

  // A lane's keys come in ascending order: of equal scores the first stays.
  __device__ void update(const Tile& tile, float (&rS)[kRows][kKeys], int j0, int) {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kKeys; ++j)
        if (beats(rS[r][j], best[r])) best[r] = rS[r][j], at[r] = j0 + tile.lane + j * kLanes;
  }

  __device__ void reduce_lanes() {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int distance = kLanes / 2; distance > 0; distance /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, best[r], distance);
        const int other_at = __shfl_xor_sync(0xffffffffu, at[r], distance);
        const bool tie = other_at >= 0 && other_at < at[r] && !beats(best[r], other);
        if (beats(other, best[r]) || tie) best[r] = other, at[r] = other_at;
      }
  }

  __device__ void write_o(const Tile& tile) {
    T* gO = static_cast<T*>(tile.args.o.data);
    tile.each_row(tile.args.o, [&](int r, int64_t offset) {
      const T* v = tile.gV + (at[r] < 0 ? 0 : at[r]) * tile.args.v.row;
      for (int d = tile.lane; d < tile.args.d_v; d += kLanes)
        gO[offset + d] = at[r] < 0 ? from_float<T>(0) : v[d];
    });
  }

  __device__ float lse(int r) const { return best[r]; }
  __device__ int index(int r) const { return at[r]; }
  __device__ float probability(int r, float, int j) const { return j == at[r] ? 1 : 0; }
};

// The attention weights of all keys: scores after one of the steps, or probabilities.
template <class Tile, class SelectionState>
static __device__ void write_weights(const Tile& tile, const SelectionState& selection) {
  constexpr int kRows = Tile::kRows, kKeys = Tile::kKeys, kLanes = Tile::kLanes;
  using T = typename Tile::T;
  const ForwardArgs& args = tile.args;
  const Weights mode = args.weights_mode;
  // Scores before the mask are those of all keys; the others end at the length.
  const bool unmasked = mode == Weights::kScores || mode == Weights::kSoftcapped;
  const int end = unmasked ? args.s_kv : tile.mask.length;
  for (int64_t begin = 0; begin < args.s_kv; begin += Tile::kTileKv) {
    const int j0 = static_cast<int>(begin);
    const int keys = min(Tile::kTileKv, end - j0);
    float rS[kRows][kKeys];
    tile.score(rS, j0, max(keys, 0));
    tile.each_row(args.weights, [&](int r, int64_t offset) {
      const int i = tile.i0 + tile.row0 + r;
      const KeyRange range = tile.mask.keys(i);
#pragma unroll
      for (int j = 0; j < kKeys; ++j) {
        const int in_tile = tile.lane + j * kLanes;
        if (in_tile >= args.s_kv - j0) continue;
        const int key = j0 + in_tile;
        float w = mode == Weights::kProbabilities ? 0 : -INFINITY;
        if (in_tile < keys) {
          float s = rS[r][j];
          if (mode != Weights::kScores) s = tile.rules.softcapped(s);
          if (unmasked) {
            w = s;
          } else if (tile.rules.visible(range, i, key)) {
            s = tile.rules.biased(s, tile.slope, i, key);
            w = mode == Weights::kMasked ? s : selection.probability(r, s, key);
          }
        }
        if (args.weights_f32)
          static_cast<float*>(args.weights.data)[offset + key] = w;
        else
          static_cast<T*>(args.weights.data)[offset + key] = from_float<T>(w);
      }
    });
  }
}

template <Type kType, Score kScore, Selection kSelection>
static __global__ void __launch_bounds__(kSimtGeneralThreads, kSimtGeneralMinBlocks)
    simt_general(const __grid_constant__ ForwardArgs args, const __grid_constant__ TopKArgs top,
                 unsigned slices) {
  using Tile = GeneralTile<kType, kScore>;
  using SelectionState = std::conditional_t<
      kSelection == Selection::kSoft, SoftSelection<Tile>,
      std::conditional_t<kSelection == Selection::kHard, HardSelection<Tile>, TopKSelection<Tile>>>;
  __shared__ typename Tile::Smem smem;

  const Tile tile = Tile::of_block(args, smem, slices);
  const KeyRange visible = tile.mask.visible_keys(tile.i0, tile.rows);
  SelectionState selection(top);
  // From a multiple of kTileKv on: in which tile a key is, and so in which order a row is summed
  // up, does not depend on the rows beside it.
  const int first = visible.begin / Tile::kTileKv * Tile::kTileKv;
  for (int left = visible.end - first; left > 0; left -= Tile::kTileKv) {
    const int j0 = visible.end - left;
    const int keys = min(Tile::kTileKv, left);
    float rS[Tile::kRows][Tile::kKeys];
    tile.score(rS, j0, keys);
    tile.apply_rules(rS, j0);
    selection.update(tile, rS, j0, keys);
  }
  selection.reduce_lanes();
  selection.write_o(tile);

  if (tile.slice > 0) return;
  if (tile.lane == 0) {
    if (args.lse.data != nullptr)
      tile.each_row(args.lse, [&](int r, int64_t offset) {
        static_cast<float*>(args.lse.data)[offset] = selection.lse(r);
      });
    if (kSelection == Selection::kHard && args.index.data != nullptr)
      tile.each_row(args.index, [&](int r, int64_t offset) {
        if (args.index_i64)
          static_cast<int64_t*>(args.index.data)[offset] = selection.index(r);
        else
          static_cast<int32_t*>(args.index.data)[offset] = selection.index(r);
      });
  }
  if (args.weights.data != nullptr) write_weights(tile, selection);
}

}  // namespace qkv::kernels
