// A result against the oracle, before it is timed. The fp64 oracle is slow, so it computes sampled
// rows only; that every element was written is checked on the whole output.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/problem.h"

namespace qkv::bench {

class Reference {
 public:
  // Computes the sampled rows of a problem in host memory; reads its inputs alone.
  explicit Reference(const host::Problem& problem);

  // What is wrong with `o`, laid out as the problem's output; empty: nothing.
  //   max|o - ref64| <= 2 max|lowp - ref64| + one unit in the last place of max|ref64|
  // where lowp is the textbook algorithm with the roundings of the contract; with `rounded_scores`
  // it rounds the scores to the input type as well.
  std::string check(const void* o, bool rounded_scores = false) const;

 private:
  struct Row {
    int64_t b, h, i;
    std::vector<double> exact, low_precision, rounded_scores;
  };

  host::Problem problem_;
  std::vector<Row> rows_;
  double tolerance_ = 0, tolerance_rounded_scores_ = 0;
};

}  // namespace qkv::bench
