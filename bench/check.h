// A result against the oracle, before it is timed. The fp64 oracle is slow, so it computes sampled
// rows only; that every element was written is checked on all outputs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/ops/attention/problem.h"
#include "host/ops/attention/reference/attention.h"

namespace qkv::bench {

// The problem of one query row: its keys are all there, its diagonal is where it was.
host::attention::Problem row_problem(const host::attention::Problem& p, int64_t b, int64_t h,
                                     int64_t i);

// O of a one-row problem by the textbook in fp32, with scores, weights and O in the input type: of
// plain problems, which unfused code computes too.
std::vector<double> with_rounded_scores(const host::attention::Problem& row);

class Reference {
 public:
  // Computes the sampled rows of a problem in host memory; reads its inputs alone.
  // `by_series`: tanh of additive scores may have the error that qkv.h allows tensor cores.
  explicit Reference(const host::attention::Problem& problem, bool by_series = false);

  // What is wrong with the outputs at the problem's addresses; empty: nothing.
  //   O        max|o - ref64| <= 2 max|lowp - ref64| + one unit in the last place of max|ref64|
  //            + what rounding a score in fp32 costs
  //   LSE      |lse - ref64| <= 1e-5 (1 + |ref64|), or what fp32 scores cost
  //   weights  what fp32 scores cost, and half a unit in the last place
  //   hard     the index names a key that fp32 scores may take for the best; O is its row of V and
  //            the probabilities are its, bit for bit
  //   top-k    no key that is left out may, by fp32 scores, be better than one that is taken; all
  //            else is soft attention over the keys that were taken
  // where lowp is the textbook algorithm with the roundings of the contract; with `rounded_scores`
  // it rounds the scores to the input type as well.
  std::string check(bool rounded_scores = false) const;
  std::string check(const void*) const = delete;  // an address is no flag

 private:
  // One query, as a problem of its own, and the oracle's answers to it.
  struct Row {
    int64_t b, h, i;
    host::attention::Problem problem;
    reference::Result exact;                            // weights in the problem's mode
    std::vector<double> scores;                         // after bias and mask
    std::vector<double> low_precision, rounded_scores;  // O; the latter may be empty
    // What fp32 may do: to each score, to each weight (relative), to their sum (relative).
    std::vector<double> score_error, weight_error;
    double sum_error = 0;
  };

  void bound_errors(Row* row) const;
  void derive_tolerances();
  std::string check_o(const Row& row, double tolerance) const;
  std::string check_lse(const Row& row) const;
  std::string check_weights(const Row& row) const;
  std::string check_hard(const Row& row) const;
  std::string check_top(const Row& row) const;
  std::string check_outputs(const Row& row, double tolerance) const;

  host::attention::Problem problem_;
  bool by_series_;
  std::vector<Row> rows_;
  double tolerance_ = 0, tolerance_rounded_scores_ = 0;
};

}  // namespace qkv::bench
