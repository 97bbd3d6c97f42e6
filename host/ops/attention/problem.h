// One attention problem, made once from the C descriptor: checked, defaults resolved, broadcasts
// turned into stride 0. Everything behind validate() may rely on the invariants stated here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "host/core/descriptor.h"
#include "host/core/op.h"
#include "host/core/status.h"
#include "host/core/tensor_check.h"
#include "host/core/view.h"
#include "qkv/qkv.h"

namespace qkv::host::attention {

// A bound that no index reaches, with room to add indices to it.
inline constexpr int64_t kUnbounded = int64_t{1} << 61;

struct Problem : AnyProblem {
  qkv_score score = QKV_SCORE_DOT;
  qkv_selection selection = QKV_SELECT_SOFT;
  int64_t top_k = 1;  // keys that a query selects: 1 but under top-k selection

  int64_t batch = 0, heads_q = 0, heads_kv = 0, s_q = 0, s_kv = 0, d_qk = 0, d_v = 0;
  qkv_type type = QKV_TYPE_F32;  // of q, k, v and o

  View q;      // [batch, heads_q,  s_q,  d_qk]
  View k;      // [batch, heads_kv, s_kv, d_qk]
  View v;      // [batch, heads_kv, s_kv, d_v]
  View o;      // [batch, heads_q,  s_q,  d_v]
  View lse;    // [batch, heads_q,  s_q,  1]     f32; may be absent
  View index;  // [batch, heads_q,  s_q,  top_k] i32 or i64; may be absent; not with soft selection
  View weights;  // [batch, heads_q,  s_q,  s_kv]  f32 or type; may be absent
  qkv_weights_mode weights_mode = QKV_WEIGHTS_PROBABILITIES;
  View top_scores;  // [batch, heads_q,  s_q,  top_k] f32; may be absent; only with top-k selection

  float scale = 1;    // resolved
  float softcap = 0;  // 0: none

  // Key j is visible to query i when i + offset - left <= j <= i + offset + right. Causal is right
  // <= 0.
  qkv_alignment alignment = QKV_ALIGN_BOTTOM_RIGHT;
  int64_t explicit_offset = 0;  // 0 unless alignment is EXPLICIT
  int64_t left = kUnbounded, right = kUnbounded;

  View mask;             // [batch, heads_q, s_q, s_kv]  bool; may be absent
  View bias;             // [batch, heads_q, s_q, s_kv]  f32 or type; may be absent
  View alibi_slopes;     // [batch, heads_q, 1, 1]       f32; may be absent
  View additive_weight;  // [1, heads_q, 1, d_qk]        f32; present with additive scores only
  View kv_lengths;       // [batch, 1, 1, 1]             i32 or i64; may be absent

  int64_t fixed_split_size = 0;  // keys; 0: the plan chooses

  // The keys of batch b, as kv_lengths says; those must be in memory of the host.
  int64_t length(int64_t b) const {
    if (!kv_lengths.present()) return s_kv;
    return kv_lengths.type == QKV_TYPE_I64 ? *kv_lengths.at<int64_t>(b, 0, 0)
                                           : *kv_lengths.at<int32_t>(b, 0, 0);
  }
  // Whether the weights output holds the scores of all keys, of those past the length as well.
  bool scores_all_keys() const {
    return weights.present() && weights_mode <= QKV_WEIGHTS_SOFTCAPPED;
  }
  // The offset of a batch whose key length is `length`.
  int64_t offset(int64_t length) const {
    return alignment == QKV_ALIGN_BOTTOM_RIGHT ? length - s_q : explicit_offset;
  }
  bool windowed() const { return left != kUnbounded || right != kUnbounded; }
  // No output element exists: nothing to run.
  bool empty() const { return batch == 0 || s_q == 0; }
};

// --- the tensors, once: validation, plan key, texts, kernels' refusals, program, benchmark and
// tests are all driven by this table

enum TensorId : size_t {
  kQ,
  kK,
  kV,
  kO,
  kMask,
  kBias,
  kAlibi,
  kAdditive,
  kLengths,
  kLse,
  kIndex,
  kWeights,
  kTopScores,
  kTensorCount
};

inline constexpr TensorId kRequired[] = {kQ, kK, kV, kO};
// What a run writes.
inline constexpr TensorId kOutputs[] = {kO, kLse, kIndex, kWeights, kTopScores};

// How long an axis is, by the problem's sizes; in the order of extents_of().
enum class Extent { kOne, kBatch, kHeadsQ, kHeadsKv, kSq, kSkv, kDqk, kDv, kTopK };

// What a tensor's elements may be.
enum class Element {
  kMain,  // q's type: f32, f16 or bf16
  kF32,
  kWide,  // f32 or q's type
  kBool,
  kLength,  // i32 or i64
  kIndex,   // i64 or i32
};

// The field of a repro line that says there is such a tensor.
enum class Word {
  kNone,     // required, or said by an option: no field
  kPlain,    // "lse"
  kAxes,     // "mask=qk": the axes on which it has elements of its own; "bias32=" where f32 is not
             // q's type
  kInteger,  // "index32", "index64"
  kMode,     // "weights=3": weights_mode; "weights32=" as above
};

// What the elements of an input mean to whoever makes some up.
enum class Values {
  kNone,     // an output
  kNormal,   // numbers around 0
  kTruth,    // 0 or 1
  kSlopes,   // of ALiBi: powers of 2 down to 2^-8
  kLengths,  // 0 to s_kv
};

struct TensorRow {
  const char* name;  // the descriptor's field
  qkv_tensor qkv_attention_desc::*given;
  View Problem::*view;
  std::array<Extent, 4> shape;
  Element element;
  Use use;
  Innermost innermost;
  int broadcast;  // bit of an axis: an extent of 1 serves the whole axis
  Word kind;
  const char* word;     // of the repro line, the program (--word FILE) and the benchmark
  const char* refusal;  // why a kernel that does not take it declines
  Values values;
  const char* about;  // what it is, for help texts
};

// An input that a problem may have or lack. Each has a file option of the program.
constexpr bool is_optional_input(const TensorRow& row) {
  return row.use == Use::kInput && row.element != Element::kMain;
}

// Of an axis' bit: [batch, heads, seq, dim or keys].
inline constexpr int kBroadcastBatch = 1, kBroadcastHeads = 2, kBroadcastAll = 15;

// clang-format off
inline constexpr std::array<TensorRow, kTensorCount> kTensors{{
#define QKV_TENSOR(field) #field, &qkv_attention_desc::field, &Problem::field
    {QKV_TENSOR(q), {Extent::kBatch, Extent::kHeadsQ, Extent::kSq, Extent::kDqk},
     Element::kMain, Use::kInput, Innermost::kOne, 0, Word::kNone, "q", "", Values::kNormal, "queries"},
    {QKV_TENSOR(k), {Extent::kBatch, Extent::kHeadsKv, Extent::kSkv, Extent::kDqk},
     Element::kMain, Use::kInput, Innermost::kOne, 0, Word::kNone, "k", "", Values::kNormal, "keys"},
    {QKV_TENSOR(v), {Extent::kBatch, Extent::kHeadsKv, Extent::kSkv, Extent::kDv},
     Element::kMain, Use::kInput, Innermost::kOne, 0, Word::kNone, "v", "", Values::kNormal, "values"},
    {QKV_TENSOR(o), {Extent::kBatch, Extent::kHeadsQ, Extent::kSq, Extent::kDv},
     Element::kMain, Use::kOutput, Innermost::kOne, 0, Word::kNone, "o", "", Values::kNone, "the result"},
    {QKV_TENSOR(mask), {Extent::kBatch, Extent::kHeadsQ, Extent::kSq, Extent::kSkv},
     Element::kBool, Use::kInput, Innermost::kAny, kBroadcastAll, Word::kAxes, "mask",
     "takes no mask tensor", Values::kTruth, "truth values, false hides a key"},
    {QKV_TENSOR(bias), {Extent::kBatch, Extent::kHeadsQ, Extent::kSq, Extent::kSkv},
     Element::kWide, Use::kInput, Innermost::kAny, kBroadcastAll, Word::kAxes, "bias",
     "takes no bias tensor", Values::kNormal, "added to the scores"},
    {QKV_TENSOR(alibi_slopes), {Extent::kBatch, Extent::kHeadsQ, Extent::kOne, Extent::kOne},
     Element::kF32, Use::kInput, Innermost::kAny, kBroadcastBatch | kBroadcastHeads,
     Word::kPlain, "alibi", "takes no alibi_slopes", Values::kSlopes, "ALiBi slopes"},
    {QKV_TENSOR(additive_weight), {Extent::kOne, Extent::kHeadsQ, Extent::kOne, Extent::kDqk},
     Element::kF32, Use::kInput, Innermost::kOne, kBroadcastHeads, Word::kNone, "additive-weight",
     "takes no additive_weight", Values::kNormal, "weights w of the additive score"},
    {QKV_TENSOR(kv_lengths), {Extent::kBatch, Extent::kOne, Extent::kOne, Extent::kOne},
     Element::kLength, Use::kInput, Innermost::kAny, 0, Word::kPlain, "lengths",
     "takes no kv_lengths", Values::kLengths, "keys that count in each sequence"},
    {QKV_TENSOR(lse), {Extent::kBatch, Extent::kHeadsQ, Extent::kSq, Extent::kOne},
     Element::kF32, Use::kOutput, Innermost::kAny, 0, Word::kPlain, "lse", "does not write LSE",
     Values::kNone, "log of the sum of exp(scores)"},
    {QKV_TENSOR(index), {Extent::kBatch, Extent::kHeadsQ, Extent::kSq, Extent::kTopK},
     Element::kIndex, Use::kOutput, Innermost::kOne, 0, Word::kInteger, "index",
     "does not write an index", Values::kNone, "hard and top-k selection: the chosen keys"},
    {QKV_TENSOR(weights), {Extent::kBatch, Extent::kHeadsQ, Extent::kSq, Extent::kSkv},
     Element::kWide, Use::kOutput, Innermost::kOne, 0, Word::kMode, "weights",
     "does not write attention weights", Values::kNone, "attention weights"},
    {QKV_TENSOR(top_scores), {Extent::kBatch, Extent::kHeadsQ, Extent::kSq, Extent::kTopK},
     Element::kF32, Use::kOutput, Innermost::kOne, 0, Word::kPlain, "top-scores",
     "does not write top_scores", Values::kNone, "top-k selection: the chosen keys' scores"},
#undef QKV_TENSOR
}};
// clang-format on

// Every Extent of sizes that have the problem's names, and the shape of a tensor among them.
using Extents = std::array<int64_t, 9>;

template <class Sizes>
constexpr Extents extents_of(const Sizes& n) {
  return {1, n.batch, n.heads_q, n.heads_kv, n.s_q, n.s_kv, n.d_qk, n.d_v, n.top_k};
}

constexpr Shape shape_of(const TensorRow& row, const Extents& extents) {
  Shape out{};
  for (size_t axis = 0; axis < 4; ++axis) out[axis] = extents[static_cast<size_t>(row.shape[axis])];
  return out;
}

// The types that a tensor may have where q's is `main`; the first is the plainest choice.
constexpr std::array<qkv_type, 2> types_of(Element element, qkv_type main) {
  switch (element) {
    case Element::kMain:
      return {main, main};
    case Element::kF32:
      return {QKV_TYPE_F32, QKV_TYPE_F32};
    case Element::kWide:
      return {QKV_TYPE_F32, main};
    case Element::kBool:
      return {QKV_TYPE_BOOL, QKV_TYPE_BOOL};
    case Element::kLength:
      return {QKV_TYPE_I32, QKV_TYPE_I64};
    case Element::kIndex:
      return {QKV_TYPE_I64, QKV_TYPE_I32};
  }
  return {};
}

// The scale of a descriptor that sets none.
float default_scale(qkv_score score, int64_t d_qk);

// Keys [begin, end) are the ones that length and window leave visible to a query; empty when begin
// >= end.
struct KeyRange {
  int64_t begin, end;
};

inline KeyRange visible_keys(const Problem& p, int64_t i, int64_t length) {
  const int64_t diagonal = i + p.offset(length);
  const int64_t begin = diagonal - p.left, end = diagonal + p.right + 1;
  return {begin > 0 ? begin : 0, end < length ? end : length};
}

// What releases made of qkv_attention_desc.
extern const DescriptorForm kAttentionForm;

// The part of validate() that is about the descriptor alone, for ops that fill one in: overlaps,
// the device and the workspace are of their call as a whole.
Status check_problem(const qkv_attention_desc& desc, bool of_first_release, Need need,
                     Problem* problem);

// Turns the caller's descriptor into a problem or says what is wrong with it. Reads no tensor data.
// Allocates nothing unless it refuses.
Status validate(const qkv_attention_desc* given, Need need, const CudaRuntime& cuda,
                Problem* problem);

// Lengths in host memory against 0..s_kv.
Status check_lengths(const Problem& problem);

}  // namespace qkv::host::attention
