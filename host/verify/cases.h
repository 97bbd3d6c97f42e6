// Attention problems as named rows. Every option of the contract is a field; what a row does not
// name has the default below, a small problem whose sizes are no multiple of anything.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "host/ops/attention/problem.h"
#include "qkv/qkv.h"

namespace qkv::verify {

// The rows of the table of tensors, kQ to kTopScores.
using enum host::attention::TensorId;
using host::attention::TensorId;

enum class Layout {
  kBshd,       // contiguous [batch, seq, heads, dim]
  kBhsd,       // contiguous [batch, heads, seq, dim]
  kSbhd,       // contiguous [seq, batch, heads, dim]
  kPacked,     // q, k and v in one [batch, seq, heads, dim] array; needs s_q = s_kv, d_qk = d_v
  kPadded,     // 8 elements after each row, rows between the heads, heads between the batches
  kOddPadded,  // 1 element after each row: no alignment but that of an element
  kSharedKv,   // k and v with stride 0 over batch and heads
  kRepeatedKv  // k and v with stride 0 over seq: every key is the same
};

// Axes on which a tensor has elements of its own; on the others it is broadcast, where the table
// allows that.
inline constexpr int kAbsent = -1;
inline constexpr int kBatch = 1, kHeads = 2, kQueries = 4, kKeys = 8;
inline constexpr int kAllAxes = 15;

// An optional input that goes with no option: a case may have it or lack it.
constexpr bool is_free_input(TensorId id) {
  const host::attention::TensorRow& row = host::attention::kTensors[id];
  return row.use == host::Use::kInput && row.element != host::attention::Element::kMain &&
         id != kAdditive && id != kLengths;
}

// The free inputs of a case: {{kBias, kHeads | kKeys}, ...}.
class Inputs {
 public:
  struct Input {
    int axes = kAbsent;
    bool f32 = false;  // where the table allows f32 or the type of q
  };
  struct Named {
    TensorId id;
    int axes;
    bool f32 = false;
  };

  Inputs() = default;
  Inputs(std::initializer_list<Named> inputs) {
    for (const Named& input : inputs) (*this)[input.id] = {input.axes, input.f32};
  }
  Input& operator[](TensorId id) { return inputs_[id]; }
  const Input& operator[](TensorId id) const { return inputs_[id]; }

 private:
  std::array<Input, host::attention::kTensorCount> inputs_;
};

struct Case {
  std::string name{};
  qkv_type type = QKV_TYPE_F32;
  int64_t batch = 2, heads_q = 2, heads_kv = 2;
  int64_t s_q = 37, s_kv = 53, d_qk = 32, d_v = 32;

  Layout layout = Layout::kBshd;
  int64_t misalign = 0;  // elements by which q, k, v and o start after an aligned address

  qkv_score score = QKV_SCORE_DOT;
  qkv_selection selection = QKV_SELECT_SOFT;
  int64_t top_k = 1;  // under top-k selection
  std::optional<float> scale{};
  float softcap = 0;

  bool causal = false;
  qkv_alignment alignment = QKV_ALIGN_BOTTOM_RIGHT;
  int64_t offset = 0, left = -1, right = -1;

  Inputs inputs{};
  bool broadcast_by_stride = false;  // stride 0 over the full extent, else an extent of 1
  // Sides of the squares of queries and keys that the mask hides whole and leaves to chance, by
  // turns; 0: all is left to chance.
  int64_t mask_squares = 0;
  std::vector<int32_t> lengths{};  // of the batches, repeated as needed; empty: absent
  bool long_lengths = false;       // i64, else i32

  int64_t fixed_split = 0;  // keys; 0: the library chooses

  bool lse = true;
  qkv_type index = QKV_TYPE_NONE;
  bool top_scores = false;  // under top-k selection
  qkv_type weights = QKV_TYPE_NONE;
  qkv_weights_mode weights_mode = QKV_WEIGHTS_PROBABILITIES;

  bool in_place = false;  // o stands in the place of q

  // Several fields at once.
  Case& heads(int64_t q, int64_t kv) { return heads_q = q, heads_kv = kv, *this; }
  Case& sizes(int64_t q, int64_t kv) { return s_q = q, s_kv = kv, *this; }
  Case& dims(int64_t qk, int64_t v) { return d_qk = qk, d_v = v, *this; }
  Case& one_head() { return batch = 1, heads(1, 1); }
  Case& window(int64_t to_left, int64_t to_right) {
    return left = to_left, right = to_right, *this;
  }
  Case& top_left() { return alignment = QKV_ALIGN_TOP_LEFT, *this; }
  Case& select_top(int64_t k) {  // with its outputs: without the index nothing judges a near tie
    selection = QKV_SELECT_TOP_K, top_k = k, top_scores = true;
    if (index == QKV_TYPE_NONE) index = QKV_TYPE_I32;
    return *this;
  }
  Case& shifted(int64_t by) { return alignment = QKV_ALIGN_EXPLICIT, offset = by, *this; }

  // Whether the weights output has the scores of keys past the length, too.
  bool scores_all_keys() const {
    return weights != QKV_TYPE_NONE && weights_mode <= QKV_WEIGHTS_SOFTCAPPED;
  }

  bool has(TensorId input) const { return inputs[input].axes != kAbsent; }

  bool in_hidden_square(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return mask_squares > 0 && (i / mask_squares + j / mask_squares + b + h) % 2 == 1;
  }

  int64_t length(int64_t b) const {
    return lengths.empty() ? s_kv : lengths[static_cast<size_t>(b) % lengths.size()];
  }
  // The key on the diagonal of query 0.
  int64_t diagonal(int64_t b) const {
    return alignment == QKV_ALIGN_BOTTOM_RIGHT ? length(b) - s_q
           : alignment == QKV_ALIGN_EXPLICIT   ? offset
                                               : 0;
  }
  // What lengths, causal mask and window say, word for word as qkv.h has it.
  bool in_pattern(int64_t b, int64_t i, int64_t j) const {
    const int64_t on_diagonal = i + diagonal(b);
    return j < length(b) && (!causal || j <= on_diagonal) &&
           (left < 0 || j >= on_diagonal - left) && (right < 0 || j <= on_diagonal + right);
  }
};

// The options on one line.
std::string describe(const Case& row);
std::ostream& operator<<(std::ostream& out, const Case& row);

const char* type_label(qkv_type type);

// All rows of the contract test. Names are unique and of the form group_detail_type.
const std::vector<Case>& all_cases();

}  // namespace qkv::verify
