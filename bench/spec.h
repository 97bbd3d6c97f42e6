// One benchmark problem: its name, its line for --problem, its tensors' shapes, its counted work.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/ops/attention/problem.h"
#include "qkv/qkv.h"

namespace qkv::bench {

// The tensors of a problem, by the library's own table.
using Part = host::attention::TensorId;
using enum host::attention::TensorId;
using host::attention::kOutputs;
inline constexpr size_t kParts = kTensorCount;

// In elements, from one batch, head and row to the next. 0 broadcasts (K and V alone).
struct Strides {
  int64_t batch = 0, head = 0, row = 0;
};

struct Spec {
  qkv_device device = QKV_DEVICE_CPU;
  qkv_type type = QKV_TYPE_BF16;
  bool causal = false;
  int64_t d_qk = 128, d_v = 128;
  int64_t batch = 1, heads_q = 8, heads_kv = 8;
  int64_t s_q = 2048, s_kv = 2048;

  bool additive = false;  // score
  bool hard = false;      // selection
  bool top = false;       // top-k selection, of top_k keys
  int64_t top_k = 1;
  std::optional<float> scale;  // absent: the library's default
  float softcap = 0;           // 0: none
  qkv_alignment alignment = QKV_ALIGN_BOTTOM_RIGHT;
  int64_t offset = 0;                  // read under QKV_ALIGN_EXPLICIT
  std::optional<int64_t> left, right;  // of the window; absent: unbounded

  // An optional tensor. additive_weight is there with `additive`.
  struct Given {
    bool there = false;
    bool wide = false;  // in f32 where its type may be f32 or `type`
    qkv_type index = QKV_TYPE_I64;
    // The axes of b, h, q, k on which it has elements of its own, in this order; "1": none.
    std::string axes;
  };
  std::array<Given, kParts> given;  // lengths: kv_length() of every batch
  qkv_weights_mode weights_mode = QKV_WEIGHTS_PROBABILITIES;
  int64_t split = 0;    // the descriptor's fixed_split_size
  int32_t threads = 0;  // CPU: at most so many; 0: as OpenMP says

  std::array<std::optional<Strides>, 4> strides;  // of Q, K, V, O; absent: contiguous BSHD
};

// Q, K, V and O become contiguous [batch, heads, seq, dim].
void set_bhsd(Spec* spec);

// Whether they are.
bool is_bhsd(const Spec& spec);

// "f32", "f16", "bf16"; "cpu", "cuda".
const char* type_name(qkv_type type);
const char* device_name(qkv_device device);

// Inverse of the above. Throw std::invalid_argument that says what is allowed.
qkv_type parse_type(const std::string& text);
qkv_device parse_device(const std::string& text);

// "causal" or "full".
const char* mask_name(const Spec& spec);

// "b1_h8_s2048"; "b4_hq32_hkv8_s4096" with grouped heads; "b1_h8_sq1_skv4096" with two lengths.
std::string shape_name(const Spec& spec);

// All else, "bshd_softcap=30_lse": the fields of line(); the layout is "" for contiguous BHSD,
// "bshd", or the strides of the tensors that are not BSHD.
std::string options_name(const Spec& spec);

// "forward/cpu/bf16/d128/causal/b1_h8_s2048"; "d192_dv128" with two widths; options follow after
// another slash.
std::string name(const Spec& spec);

// One problem in one word, for --problem: what QKV_VERBOSE=repro prints, field for field.
// "fwd:cpu:bf16:d128:causal:b1:hq8:hkv8:sq2048:skv2048:softcap=30:lse".
std::string line(const Spec& spec);

// The fields of a line that say there is such a tensor: "bias=<axes>", "bias32=<axes>". None for
// one that is always there or said by another field.
std::vector<std::string> fields_of(const host::attention::TensorRow& row);

// Inverse of line(). Fields may stand in any order after "fwd"; what is left out has Spec's
// default; "d" sets both widths, "h" both head counts, "s" both lengths, where the other field does
// not say otherwise. Throws std::invalid_argument that names the field, what it holds and what is
// allowed.
Spec parse(const std::string& line);

// Shape, strides and type of a tensor, no address; QKV_TYPE_NONE: the problem has none such.
qkv_tensor tensor(const Spec& spec, Part part);

// The keys of a batch: evenly from half of s_kv, rounded up, to s_kv; without `lengths` all.
int64_t kv_length(const Spec& spec, int64_t batch);

// Query-key pairs that length, diagonal and window leave visible, of all batches and query heads. A
// mask tensor counts as dense.
double visible_pairs(const Spec& spec);

// 2 d_qk for a score and 2 d_v for its share of the output, per visible pair; hard and top-k
// selection have scores alone.
double flops(const Spec& spec);

// Every element of every tensor read or written once.
double compulsory_bytes(const Spec& spec);

}  // namespace qkv::bench
