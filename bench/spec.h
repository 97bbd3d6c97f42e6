// One benchmark problem: its name, its line for --problem, its counted work.
#pragma once

#include <cstdint>
#include <string>

#include "qkv/qkv.h"

namespace qkv::bench {

struct Spec {
  qkv_device device = QKV_DEVICE_CPU;
  qkv_type type = QKV_TYPE_BF16;
  bool causal = false;  // bottom-right
  int64_t d_qk = 128, d_v = 128;
  int64_t batch = 1, heads_q = 8, heads_kv = 8;
  int64_t s_q = 2048, s_kv = 2048;
};

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

// "forward/cpu/bf16/d128/causal/b1_h8_s2048"; "d192_dv128" with two widths.
std::string name(const Spec& spec);

// One problem in one word, for --problem:
// "fwd:cpu:bf16:d128:causal:b1:hq8:hkv8:sq2048:skv2048". Fields may stand in any order after
// "fwd"; what is left out has Spec's default. "d" sets both widths, "dv" the second, "h" both head
// counts, "s" both lengths.
std::string line(const Spec& spec);

// Throws std::invalid_argument that names the field, what it holds and what is allowed.
Spec parse(const std::string& line);

// Query-key pairs that the mask leaves visible, of all batches and query heads.
double visible_pairs(const Spec& spec);

// 2 d_qk for a score and 2 d_v for its share of the output, per visible pair.
double flops(const Spec& spec);

// Q, K and V read once, O written once.
double compulsory_bytes(const Spec& spec);

}  // namespace qkv::bench
