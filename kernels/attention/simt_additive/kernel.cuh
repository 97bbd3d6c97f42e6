// simt_additive: O = softmax(S) V and LSE with additive scores S = scale * w . tanh(q + k) on plain
// CUDA cores, in fp32 arithmetic, tanh by the rational forms of rational.h.
//
// One block computes kTileQ query rows of one (batch, head): it walks over the keys that at least
// one of these rows sees, kTileKv at a time. Scores are summed up over chunks of kChunk dims, whose
// features, exponentials of the elements of Q and of K, are made in shared memory: those of a key
// once for each tile of queries, those of a query once for each block of keys. A block is 8 groups
// of 16 lanes; a group computes 8 adjacent rows, of which a lane has every 16th key of S and 4
// adjacent columns of each 64 of O.
//
// Contract (qkv.h has the rest): elements need no alignment but their own; keys at or past the
// length are never read; keys masked by the window get weight 0; tanh as rational.h says; where an
// element of q or of k is out of its range, NaN not among it, the pair's score is the sum of tanhf,
// decided by its own query and key alone; P is rounded to the element type before P V, l sums the
// unrounded weights, O is rounded once; a row without a score above -inf gives O = +0 and LSE =
// -inf. The one kind of atomics sets bits: the result depends on the arguments alone.
#pragma once

#include <cstdint>

#include "kernels/attention/simt_additive/elements.cuh"
#include "kernels/attention/simt_additive/fractions.cuh"
#include "kernels/attention/simt_additive/policy.h"
#include "kernels/attention/simt_additive/rational.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask.h"
#include "kernels/core/numeric.cuh"
#include "kernels/core/online_softmax.cuh"
#include "kernels/core/score.cuh"
#include "kernels/ptx/opaque.h"

namespace qkv::kernels {

template <Type kType>
struct AdditiveTile {
  using T = Element<kType>;
  using Form = Fractions<kType == Type::kF32>;
  static constexpr int kThreads = kSimtAdditiveThreads;
  static constexpr int kTileQ = kSimtAdditiveTileQ, kTileKv = kSimtAdditiveTileKv;
  static constexpr int kChunk = kSimtAdditiveChunk, kKeysOfV = kSimtAdditiveKeysOfV;
  static constexpr int kColumns = kSimtAdditiveColumns;
  static constexpr int kLanes = 16;                           // that share a row
  static constexpr int kRows = kTileQ / (kThreads / kLanes);  // of S and O in a thread
  static constexpr int kKeys = kTileKv / kLanes;              // of S in a thread
  static constexpr int kPasses = kSimtAdditiveMaxDim / kColumns;
  static constexpr int kMarks = (kTileQ + kTileKv) / 32;
  static_assert(kRows == 8 && kColumns == 4 * kLanes && kTileQ % 32 == 0 && kTileKv % 32 == 0);

  // Rows are padded so that 8 rows of a column of float4 lie on 32 different banks.
  static constexpr int kFeaturePitch = kChunk + 4, kPitch = kTileKv + 4;
  static_assert(kPitch == kColumns + 4 && kKeysOfV * kPitch <= kTileKv * kFeaturePitch);

  struct Smem {
    alignas(16) float qp[kTileQ * kPitch];          // features of Q, then P, at last columns of O
    alignas(16) float kv[kTileKv * kFeaturePitch];  // features of K, then V
    alignas(16) float w[kChunk];                    // as numerators have them
    float of_weights;                               // what all of them come to
    uint32_t weight_out;                            // not 0: one of them is out of range
    uint32_t out[kMarks];                           // bits: the row, the key is out of range
  };
  static_assert(sizeof(Smem) == simt_additive_smem_bytes());

  const ForwardArgs& args;
  Smem& smem;
  int i0, head, batch;
  int rows;        // of the tile that exist
  int lane, row0;  // this thread's lane of its rows, and the first of these

  __device__ AdditiveTile(const ForwardArgs& args, Smem& smem)
      : args(args),
        smem(smem),
        lane(static_cast<int>(threadIdx.x) % kLanes),
        row0(static_cast<int>(threadIdx.x) / kLanes * kRows) {
    // The last query tiles see most keys under a causal mask: they start first.
    const unsigned tiles = (static_cast<unsigned>(args.s_q) + kTileQ - 1) / kTileQ;
    const unsigned heads = static_cast<unsigned>(args.heads_q);
    i0 = static_cast<int>(tiles - 1 - blockIdx.x % tiles) * kTileQ;
    head = static_cast<int>(blockIdx.x / tiles % heads);
    batch = static_cast<int>(blockIdx.x / tiles / heads);
    rows = min(kTileQ, args.s_q - i0);
    add_up_weights();
  }

  // Addresses of the head's rows. Opaque: they are computed again for each chunk instead of held in
  // registers.
  __device__ const T* row_of_q(int row) const {
    return static_cast<const T*>(args.q.data) + ptx::opaque(batch) * args.q.batch +
           ptx::opaque(head) * args.q.head + (i0 + row) * args.q.row;
  }
  __device__ const T* row_of(const Tensor& t, int64_t key) const {
    const int head_kv = ptx::opaque(head) / (args.heads_q / args.heads_kv);
    return static_cast<const T*>(t.data) + ptx::opaque(batch) * t.batch + head_kv * t.head +
           key * t.row;
  }
  __device__ const float* weights() const {
    return static_cast<const float*>(args.additive_weight.data) +
           ptx::opaque(head) * args.additive_weight.head;
  }

  // The first warp, in one order.
  __device__ void add_up_weights() const {
    if (threadIdx.x >= 32) return;
    const float* const gW = weights();
    float sum = 0;
    bool in_range = true;
    for (int d = static_cast<int>(threadIdx.x); d < args.d_qk; d += 32) {
      const float w = gW[d];
      sum = Form::with_weight(sum, w);
      in_range = in_range && fabsf(w) <= kRationalMostWeight;  // not if it is NaN
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      sum = Form::with_weight(sum, __shfl_xor_sync(0xffffffffu, sum, distance));
    const bool rational = __all_sync(0xffffffffu, in_range) != 0;
    if (threadIdx.x == 0)
      smem.of_weights = Form::of_weights(sum), smem.weight_out = rational ? 0 : 1;
  }

  // Rows of `dim` elements can be read 4 elements at a time.
  static __device__ bool aligned(const Tensor& t, int dim) {
    const int64_t offsets = t.batch | t.head | t.row | dim;
    return offsets % 4 == 0 && reinterpret_cast<uintptr_t>(t.data) % (4 * sizeof(T)) == 0;
  }

  // rS += the sum of fractions over one chunk of `cols` dims.
  __device__ void add_chunk(float (&rS)[kRows][kKeys], int cols) const {
    const float* const sQ = smem.qp + row0 * kFeaturePitch;
    const float* const sK = smem.kv + lane * kFeaturePitch;
#pragma unroll 1
    for (int d = 0; d < cols; d += 4) {
      const float4 w = float4_at(&smem.w[d]);
      typename Form::Key k[kKeys];
#pragma unroll
      for (int j = 0; j < kKeys; ++j)
        k[j] = typename Form::Key(float4_at(sK + j * kLanes * kFeaturePitch + d), w);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 q = float4_at(sQ + r * kFeaturePitch + d);
#pragma unroll
        for (int j = 0; j < kKeys; ++j) rS[r][j] = Form::add(rS[r][j], q, k[j], w);
      }
    }
  }

  // rS = w . tanh(Q + K) for keys [j0, j0 + keys); of others it is anything. Ends behind a barrier:
  // all warps have read what is in shared memory.
  __device__ void score(float (&rS)[kRows][kKeys], int j0, int keys) const {
    if constexpr (!Form::kReadsWeightsLater) __syncthreads();  // what weights come to is there
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kKeys; ++j) rS[r][j] = Form::first(smem.of_weights);
    if (threadIdx.x < kMarks) smem.out[threadIdx.x] = 0;  // all have read them ahead of P V
    for (int d0 = 0; d0 < args.d_qk; d0 += kChunk) {
      const int cols = min(kChunk, args.d_qk - d0);
      __syncthreads();  // the marks are 0, weights added up; all warps have read what is
                        // overwritten: P and V, Q and K
      OwnElements<T, kTileQ, kChunk> q;
      OwnElements<T, kTileKv, kChunk> k;
      q.load(row_of_q(0) + d0, args.q.row, rows, cols, aligned(args.q, args.d_qk));
      k.load(row_of(args.k, j0) + d0, args.k.row, keys, cols, aligned(args.k, args.d_qk));
      q.template store_features<Form, kFeaturePitch>(smem.qp, smem.out);
      k.template store_features<Form, kFeaturePitch>(smem.kv, smem.out + kTileQ / 32);
      const int d = static_cast<int>(threadIdx.x);
      if (d < kChunk)
        smem.w[d] = d < cols ? Form::weight(weights()[d0 + d], smem.of_weights) : 0.0f;
      __syncthreads();  // features, weights and marks are there
      add_chunk(rS, cols);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kKeys; ++j) rS[r][j] = Form::score(rS[r][j], smem.of_weights);
    __syncthreads();  // all warps have read Q and K
  }

  // Whether a row or a key of the block, or a weight, is out of range.
  __device__ bool any_out() const {
    uint32_t marks = smem.weight_out;
#pragma unroll
    for (int n = 0; n < kMarks; ++n) marks |= smem.out[n];
    return marks != 0;
  }

  __device__ bool is_out(int row, int key) const {
    return smem.weight_out != 0 || (smem.out[row / 32] >> row % 32 & 1) != 0 ||
           (smem.out[kTileQ / 32 + key / 32] >> key % 32 & 1) != 0;
  }

  // w . tanh(q + k) by tanh itself.
  __device__ float score_by_tanh(int row, int64_t key) const {
    const T* const q = row_of_q(row);
    const T* const k = row_of(args.k, key);
    const float* const gW = weights();
    float sum = 0;
#pragma unroll 1
    for (int d = 0; d < args.d_qk; ++d)
      sum = fmaf(gW[d], tanhf(to_float(q[d]) + to_float(k[d])), sum);
    return sum;
  }

  // rS = the scores that the softmax sees, one by one in shared memory, where P will be: -inf where
  // masked, and in rows past the last.
  __device__ void finish(float (&rS)[kRows][kKeys], const KeyMask& mask, int j0) const {
    float* const own = smem.qp + row0 * kPitch + lane;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kKeys; ++j) own[r * kPitch + j * kLanes] = rS[r][j];
    const ScoreRules<T> rules(args, mask, batch, head);
    const float slope = rules.slope(0);
#pragma unroll 1
    for (int r = 0; r < kRows; ++r) {
      const int row = row0 + r, i = i0 + row;
      const KeyRange range = row < rows ? mask.keys(i) : KeyRange{0, 0};
#pragma unroll 1
      for (int j = lane; j < kTileKv; j += kLanes) {
        const int key = j0 + j;
        float& s = smem.qp[row * kPitch + j];
        if (rules.visible(range, i, key)) {
          if (is_out(row, j)) s = score_by_tanh(row, key);
          s = rules.biased(rules.softcapped(s * args.scale), slope, i, key);
        } else {
          s = -INFINITY;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kKeys; ++j) rS[r][j] = own[r * kPitch + j * kLanes];
  }

  // rO[:][first .. first + 4) += P V over `keys` keys, the first of which is key `from` of P.
  template <int kWidth>
  __device__ void add_pv(float (&rO)[kRows][kWidth], int first, int from, int keys) const {
#pragma unroll 1
    for (int j = 0; j < keys; j += 4) {
      float4 v[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = float4_at(&smem.kv[(j + i) * kPitch + lane * 4]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 p4 = float4_at(&smem.qp[(row0 + r) * kPitch + from + j]);
        const float p[4] = {p4.x, p4.y, p4.z, p4.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          rO[r][first + 0] = fmaf(p[i], v[i].x, rO[r][first + 0]);
          rO[r][first + 1] = fmaf(p[i], v[i].y, rO[r][first + 1]);
          rO[r][first + 2] = fmaf(p[i], v[i].z, rO[r][first + 2]);
          rO[r][first + 3] = fmaf(p[i], v[i].w, rO[r][first + 3]);
        }
      }
    }
  }

  // rO += P V over keys [j0, j0 + keys).
  __device__ void multiply_pv(float (&rO)[kRows][kPasses * 4], int j0, int keys) const {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int d0 = pass * kColumns;
      if (d0 >= args.d_v) break;
#pragma unroll 1
      for (int from = 0; from < keys; from += kKeysOfV) {
        __syncthreads();  // all warps have read K, or V before it
        OwnElements<T, kKeysOfV, kColumns> v;
        v.load(row_of(args.v, j0 + from) + d0, args.v.row, keys - from, args.d_v - d0,
               aligned(args.v, args.d_v));
        v.template store<kPitch>(smem.kv, [](T x) { return to_float(x); });
        __syncthreads();  // P and V are there
        add_pv(rO, pass * 4, from, min(kKeysOfV, keys - from));
      }
    }
  }

  template <class Op>
  static __device__ float reduce_row(float x, Op op) {
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2)
      x = op(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
  }

  // O = rO, rounded.
  __device__ void write(const float (&rO)[kRows][kPasses * 4]) const {
    T* const gO =
        static_cast<T*>(args.o.data) + batch * args.o.batch + head * args.o.head + i0 * args.o.row;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int d0 = pass * kColumns;
      if (d0 >= args.d_v) break;
      __syncthreads();  // all warps have read P, or stored the columns before
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        float4_at(&smem.qp[(row0 + r) * kPitch + lane * 4]) = make_float4(
            rO[r][pass * 4], rO[r][pass * 4 + 1], rO[r][pass * 4 + 2], rO[r][pass * 4 + 3]);
      __syncthreads();  // these columns of O are there
      const int col = static_cast<int>(threadIdx.x) % kColumns;
      if (d0 + col < args.d_v)
#pragma unroll 4
        for (int row = static_cast<int>(threadIdx.x) / kColumns; row < rows;
             row += kThreads / kColumns)
          gO[row * args.o.row + d0 + col] = from_float<T>(smem.qp[row * kPitch + col]);
    }
  }
};

template <Type kType>
static __global__ void __launch_bounds__(kSimtAdditiveThreads, kSimtAdditiveMinBlocks)
    simt_additive(const __grid_constant__ ForwardArgs args) {
  using Tile = AdditiveTile<kType>;
  using T = typename Tile::T;
  constexpr int kTileKv = Tile::kTileKv, kLanes = Tile::kLanes;
  constexpr int kRows = Tile::kRows, kKeys = Tile::kKeys;
  __shared__ typename Tile::Smem smem;

  const Tile tile(args, smem);
  const KeyMask mask = key_mask(args, tile.batch);
  const KeyRange visible = mask.visible_keys(tile.i0, tile.rows);
  const KeyRange unmasked = mask.unmasked_keys(tile.i0, tile.rows);

  // Invariant after each block of keys, per row: m = max s; the lanes' l add up to sum P, P =
  // e^(s - m) 2^carry; rO = sum P V.
  OnlineSoftmax<softmax_carry(kType)> softmax[kRows];
  float rO[kRows][Tile::kPasses * 4] = {};

  const bool has_rules = args.softcap > 0 || args.mask.data != nullptr ||
                         args.bias.data != nullptr || args.alibi_slopes.data != nullptr;
  // From a multiple of kTileKv on: in which block a key is, and so in which order a row is summed
  // up, does not depend on the rows beside it.
  const int first = visible.begin / kTileKv * kTileKv;
  for (int left = visible.end - first; left > 0; left -= kTileKv) {
    const int j0 = visible.end - left;
    const int keys = min(kTileKv, left);
    float rS[kRows][kKeys];
    tile.score(rS, j0, keys);

    if (has_rules || j0 < unmasked.begin || unmasked.end - j0 < kTileKv || tile.any_out())
      tile.finish(rS, key_mask_of_length(args, ptx::opaque(mask.length)), j0);
    else
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int j = 0; j < kKeys; ++j) rS[r][j] *= args.scale;

          // P.
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float s_max = rS[r][0];
#pragma unroll
      for (int j = 1; j < kKeys; ++j) s_max = fmaxf(s_max, rS[r][j]);
      const float rescale = softmax[r].raise(Tile::reduce_row(s_max, fmaxf), kLog2E);
#pragma unroll
      for (int j = 0; j < kKeys; ++j) {
        const float p = softmax[r].weight(rS[r][j], kLog2E);
        softmax[r].l += p;
        smem.qp[(tile.row0 + r) * Tile::kPitch + tile.lane + j * kLanes] = round_to<T>(p);
      }
#pragma unroll
      for (int c = 0; c < Tile::kPasses * 4; ++c) rO[r][c] *= rescale;
    }
    tile.multiply_pv(rO, j0, keys);
  }

  // O and LSE.
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    softmax[r].l = Tile::reduce_row(softmax[r].l, [](float a, float b) { return a + b; });
    const float inverse = 1 / softmax[r].l;
#pragma unroll
    for (int c = 0; c < Tile::kPasses * 4; ++c)
      rO[r][c] = softmax[r].empty() ? 0 : rO[r][c] * inverse;
    if (args.lse.data != nullptr && tile.lane == 0 && tile.row0 + r < tile.rows) {
      float* const gLse = static_cast<float*>(args.lse.data) + tile.batch * args.lse.batch +
                          tile.head * args.lse.head + tile.i0 * args.lse.row;
      gLse[(tile.row0 + r) * args.lse.row] = softmax[r].lse(kLog2E);
    }
  }
  tile.write(rO);
}

}  // namespace qkv::kernels
