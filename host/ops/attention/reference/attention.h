// The oracle: attention as qkv.h states it, in fp64, without any blocking or reordering. Slow and
// meant to be read.
#pragma once

#include <cstdint>
#include <vector>

#include "host/ops/attention/problem.h"

namespace qkv::reference {

enum class Precision {
  kDouble,  // the oracle: all arithmetic in fp64, nothing rounded
  kInput,   // the textbook algorithm with the kernels' contractual roundings: fp32 arithmetic, P
            // rounded to the input type before P V, O rounded once
};

// All outputs of the contract, dense, in the axis order of qkv.h; weights in all four modes of
// qkv_weights_mode.
struct Result {
  std::vector<double> o;        // [batch, heads_q, s_q, d_v]
  std::vector<double> lse;      // [batch, heads_q, s_q]
  std::vector<int64_t> index;   // [batch, heads_q, s_q]; best key, also under soft selection
  std::vector<double> weights;  // [batch, heads_q, s_q, s_kv] in problem.weights_mode
  // [batch, heads_q, s_q, top_k] under top-k selection: the chosen keys and their scores, best
  // first; -1 and -inf where there are no more.
  std::vector<int64_t> top;
  std::vector<double> top_scores;
};

// Reads the problem's inputs (host memory); writes none of its outputs.
Result attention(const host::attention::Problem& problem, Precision precision = Precision::kDouble);

}  // namespace qkv::reference
