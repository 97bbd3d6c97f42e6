// One attention problem, made once from the C descriptor: checked, defaults resolved, broadcasts
// turned into stride 0. Everything behind validate() may rely on the invariants stated here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "host/core/status.h"
#include "host/core/tensor_check.h"
#include "host/core/view.h"
#include "qkv/qkv.h"

namespace qkv::host {

struct CudaRuntime;

// A bound that no index reaches, with room to add indices to it.
inline constexpr int64_t kUnbounded = int64_t{1} << 61;

struct Problem {
  qkv_device device = QKV_DEVICE_CPU;  // never AUTO
  int32_t device_index = 0;

  qkv_score score = QKV_SCORE_DOT;
  qkv_selection selection = QKV_SELECT_SOFT;

  int64_t batch = 0, heads_q = 0, heads_kv = 0, s_q = 0, s_kv = 0, d_qk = 0, d_v = 0;
  qkv_type type = QKV_TYPE_F32;  // of q, k, v and o

  View q;      // [batch, heads_q,  s_q,  d_qk]
  View k;      // [batch, heads_kv, s_kv, d_qk]
  View v;      // [batch, heads_kv, s_kv, d_v]
  View o;      // [batch, heads_q,  s_q,  d_v]
  View lse;    // [batch, heads_q,  s_q,  1]     f32; may be absent
  View index;  // [batch, heads_q,  s_q,  1]     i32 or i64; may be absent; only with hard selection
  View weights;  // [batch, heads_q,  s_q,  s_kv]  f32 or type; may be absent
  qkv_weights_mode weights_mode = QKV_WEIGHTS_PROBABILITIES;

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
  View kv_lengths;       // [batch, 1, 1, 1]             i32; may be absent

  int64_t fixed_split_size = 0;  // keys; 0: the plan chooses

  bool allow_allocation = false;
  void* workspace = nullptr;
  size_t workspace_size = 0;

  // The offset of a batch whose key length is `length`.
  int64_t offset(int64_t length) const {
    return alignment == QKV_ALIGN_BOTTOM_RIGHT ? length - s_q : explicit_offset;
  }
  bool windowed() const { return left != kUnbounded || right != kUnbounded; }
  // No output element exists: nothing to run.
  bool empty() const { return batch == 0 || s_q == 0; }
};

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

// Turns the caller's descriptor into a problem or says what is wrong with it. Reads no tensor data.
// Allocates nothing unless it refuses.
Status validate(const qkv_attention_desc* desc, Need need, const CudaRuntime& cuda,
                Problem* problem);

// Lengths in host memory against 0..s_kv.
Status check_lengths(const Problem& problem);

}  // namespace qkv::host
