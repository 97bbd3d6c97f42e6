// A small valid problem in host memory with every tensor of the descriptor at hand; the optional
// ones are absent until a test puts them in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/small_problem.h"

namespace qkv::test {

struct FullProblem : SmallProblem {
  static constexpr int64_t kB = 2, kHq = 4, kHkv = 2, kSq = 3, kSkv = 5, kDqk = 8, kDv = 4;

  FullProblem()
      : SmallProblem({.batch = kB,
                      .heads_q = kHq,
                      .heads_kv = kHkv,
                      .s_q = kSq,
                      .s_kv = kSkv,
                      .d_qk = kDqk,
                      .d_v = kDv}) {
    desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
    index = contiguous(index_data, QKV_TYPE_I32, {kB, kHq, kSq, 1});
    weights = contiguous(pair_data, QKV_TYPE_F32, {kB, kHq, kSq, kSkv});
    mask = contiguous(mask_data, QKV_TYPE_BOOL, {kB, kHq, kSq, kSkv});
    bias = contiguous(bias_data, QKV_TYPE_F32, {kB, kHq, kSq, kSkv});
    alibi_slopes = contiguous(slope_data, QKV_TYPE_F32, {1, kHq, 1, 1});
    additive_weight = contiguous(additive_data, QKV_TYPE_F32, {1, kHq, 1, kDqk});
    kv_lengths = contiguous(length_data, QKV_TYPE_I32, {kB, 1, 1, 1});
  }

  // As a program of 0.1.0 has it.
  void as_0_1_0() {
    desc.struct_size = offsetof(qkv_attention_desc, threads);
    desc.reserved0 = 0;
  }

  void select_top(int32_t keys) {
    desc.selection = QKV_SELECT_TOP_K;
    desc.top_k = keys;
  }

  // All options in: hard selection over additive scores, with everything that shapes them.
  void use_everything() {
    desc.score = QKV_SCORE_ADDITIVE;
    desc.selection = QKV_SELECT_HARD;
    desc.index = index;
    desc.weights = weights;
    desc.mask = mask;
    desc.bias = bias;
    desc.alibi_slopes = alibi_slopes;
    desc.additive_weight = additive_weight;
    desc.kv_lengths = kv_lengths;
  }

  std::vector<int32_t> index_data = std::vector<int32_t>(kB * kHq * kSq);
  std::vector<float> pair_data = std::vector<float>(kB * kHq * kSq * kSkv);
  std::vector<uint8_t> mask_data = std::vector<uint8_t>(kB * kHq * kSq * kSkv, 1);
  std::vector<float> bias_data = std::vector<float>(kB * kHq * kSq * kSkv);
  std::vector<float> slope_data = std::vector<float>(kHq);
  std::vector<float> additive_data = std::vector<float>(kHq * kDqk);
  std::vector<int32_t> length_data = std::vector<int32_t>(kB, kSkv);

  qkv_tensor index, weights, mask, bias, alibi_slopes, additive_weight, kv_lengths;

  // All that a call could write to.
  struct Outputs {
    std::vector<float> o, lse, weights;
    std::vector<int32_t> index;
    bool operator==(const Outputs&) const = default;
  };
  Outputs outputs() const { return {o, lse, pair_data, index_data}; }
};

}  // namespace qkv::test
