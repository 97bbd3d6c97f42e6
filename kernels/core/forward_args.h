// What every forward kernel is told: addresses, strides in elements, sizes and the mask's bounds. A
// plain struct passed by value; the host fills it from its Problem.
#pragma once

#include <cstdint>

namespace qkv::kernels {

enum class Type : int32_t { kF32 = 1, kF16 = 2, kBF16 = 3 };  // qkv_type's numbers
enum class Score : int32_t { kDot = 0, kAdditive = 1 };       // qkv_score's
enum class Selection : int32_t { kSoft, kHard, kTopK };       // qkv_selection's
enum class Weights : int32_t {
  kScores,
  kSoftcapped,
  kMasked,
  kProbabilities
};  // qkv_weights_mode's

struct Tensor {
  void* data = nullptr;
  int64_t batch = 0, head = 0, row = 0;  // strides in elements; the innermost stride is 1
};

// A tensor over (query, key) pairs; any axis may have stride 0.
struct PairTensor {
  const void* data = nullptr;
  int64_t batch = 0, head = 0, row = 0, col = 0;
};

struct ForwardArgs {
  Tensor q;    // [batch, heads_q,  s_q,  d_qk]
  Tensor k;    // [batch, heads_kv, s_kv, d_qk]
  Tensor v;    // [batch, heads_kv, s_kv, d_v]
  Tensor o;    // [batch, heads_q,  s_q,  d_v]
  Tensor lse;  // [batch, heads_q,  s_q] fp32; data may be null

  // Optional, for the kernels that take them; data may be null.
  Tensor index;            // [batch, heads_q, s_q] int64 or int32; top-k: [.., k], its stride 1
  Tensor weights;          // [batch, heads_q, s_q, s_kv] fp32 or as q
  PairTensor mask;         // [batch, heads_q, s_q, s_kv] bytes, 0 hides the key
  PairTensor bias;         // [batch, heads_q, s_q, s_kv] fp32 or as q
  Tensor alibi_slopes;     // [batch, heads_q] fp32
  Tensor additive_weight;  // [1, heads_q, d_qk] fp32
  bool index_i64 = false, weights_f32 = false, bias_f32 = false;
  Weights weights_mode = Weights::kProbabilities;

  // [batch] int32 or int64, clamped to 0..s_kv by the kernel (core/mask.h); may be null.
  const void* kv_lengths = nullptr;
  int64_t kv_lengths_stride = 0;
  bool kv_lengths_i64 = false;

  int32_t batch = 0, heads_q = 0, heads_kv = 0;
  int32_t s_q = 0, s_kv = 0, d_qk = 0, d_v = 0;

  float scale = 1;    // S = scale * Q K^T
  float softcap = 0;  // S = softcap * tanh(S / softcap); 0: none

  // Key j is visible to query i when i + offset - left <= j <= i + offset + right and j < length,
  // with offset = length - s_q if bottom_right, else `offset`.
  bool bottom_right = true;
  int64_t offset = 0, left = 0, right = 0;
};

}  // namespace qkv::kernels
