// Attention problems as named rows. Every option of the contract is a field; what a row does not
// name has the default below, a small problem whose sizes are no multiple of anything.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "qkv/qkv.h"

namespace qkv::verify {

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

// Axes on which a mask or bias has elements of its own; on the others it is broadcast.
inline constexpr int kAbsent = -1;
inline constexpr int kBatch = 1, kHeads = 2, kQueries = 4, kKeys = 8;
inline constexpr int kAllAxes = 15;

struct Case {
  std::string name{};
  qkv_type type = QKV_TYPE_F32;
  int64_t batch = 2, heads_q = 2, heads_kv = 2;
  int64_t s_q = 37, s_kv = 53, d_qk = 32, d_v = 32;

  Layout layout = Layout::kBshd;
  int64_t misalign = 0;  // elements by which q, k, v and o start after an aligned address

  qkv_score score = QKV_SCORE_DOT;
  qkv_selection selection = QKV_SELECT_SOFT;
  std::optional<float> scale{};
  float softcap = 0;

  bool causal = false;
  qkv_alignment alignment = QKV_ALIGN_BOTTOM_RIGHT;
  int64_t offset = 0, left = -1, right = -1;

  int mask = kAbsent;
  int bias = kAbsent;
  bool bias_f32 = false;             // else the type of q
  bool broadcast_by_stride = false;  // stride 0 over the full extent, else an extent of 1
  bool alibi = false;
  std::vector<int32_t> lengths{};  // of the batches, repeated as needed; empty: absent

  int64_t fixed_split = 0;  // keys; 0: the library chooses

  bool lse = true;
  qkv_type index = QKV_TYPE_NONE;
  qkv_type weights = QKV_TYPE_NONE;
  qkv_weights_mode weights_mode = QKV_WEIGHTS_PROBABILITIES;

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
