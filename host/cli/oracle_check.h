// Results against the fp64 oracle.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qkv/qkv.h"

namespace qkv::cli {

struct Difference {
  std::string output;  // "o", "lse", ...
  double largest = 0;  // |result - oracle| over the finite elements
  // Twice the error of the textbook algorithm in the same precision, and a unit in the last place
  // (fp32: four) of the largest element.
  double allowed = 0;
  int64_t nonfinite = 0;  // elements where one is finite and the other is not
  bool passed() const { return nonfinite == 0 && largest <= allowed; }
};

struct OracleReport {
  std::vector<Difference> outputs;
  int64_t other_choices = 0;  // hard and top-k selection: rows where a near tie was decided
                              // otherwise. Hard: their o and weights are left out; top-k: these are
                              // compared with those over the keys that were chosen
  bool passed() const;
};

// The descriptor's tensors must be in host memory and its outputs computed. Slow: as many
// operations as attention has, in fp64 on one core, twice.
OracleReport compare_with_oracle(qkv_attention_desc desc);

}  // namespace qkv::cli
