// How close an output must be to the oracle. Nothing here is tuned: every allowance is derived from
// the contract's roundings (P and O to the input type, all else fp32) or is the error that the
// textbook algorithm with these roundings makes on the same input.
//
// In this order, with u the unit roundoff of the element type and e = 2^-24 that of fp32:
//
//   0. An element is NaN, +inf or -inf exactly where the oracle's, rounded to the type, is. A row
//      without a visible key is +0 bit for bit.
//   a. max |o - o64| <= 2 max |lowp - o64| + floor       (FlashAttention's rule against fp64)
//   b. RMS error <= 1.1 that of lowp, beyond 6 standard errors of what the sample shows of it
//      (from 4096 elements and 64 rows on; not where tanh is part of the score, which libm rounds
//      to 1 ulp and vector units to 3: there rule c counts)
//   c. per element: |o - o64| <= 2 u sum p|v| + half an ulp + what fp32 scores cost (below)
//   d. no bias: the mean error, and the mean error away from zero, stay within 6 standard errors of
//      twice lowp's (from 4096 elements, 64 rows and 64 columns of V on)
//   e. |LSE - LSE64| <= 1e-5 (1 + |LSE|), or what fp32 scores cost where that is more
//
// fp32 scores: a dot product of n fp32 terms errs by at most lambda sqrt(n) e sum|q||k| but for a
// probability of 2 exp(-lambda^2 / 2) (Higham and Mary, A new approach to probabilistic rounding
// error analysis, SIAM J. Sci. Comput. 41(5), 2019, theorem 3.1); lambda = 6 leaves 3e-8. The
// functions behind it (exp, tanh, softcap, bias) add single roundings, counted one by one.
//
// tanh by a series (qkv.h's other tanh of additive scores, of 16-bit types on tensor cores): each
// of the d_qk terms w tanh(q + k) errs by at most 2^-8 |w|, and by 2^-11 |w| in the root of the
// mean square. A score then errs by at most 2^-8 sum |w|, and by lambda 2^-11 |w|_2, where errors
// of dims have nothing to do with each other; the smaller one counts in rules c and e, the latter
// with lambda 1 in rule a. Where another kernel computes, none of this is allowed.
#pragma once

#include <string>
#include <vector>

#include "host/ops/attention/problem.h"
#include "host/ops/attention/reference/attention.h"
#include "host/verify/built_problem.h"

namespace qkv::verify {

// What is to be said of outputs.
struct Judgement {
  std::string wrong;  // the first element that breaks a rule, with its values; "" if none does
  // The largest error over what it may be: of the elements by rule c, of O by rule a, of LSE and
  // weights. At most 1 where nothing is wrong; infinite for a number where none may be. Rules b and
  // d, which are about all elements together, are judged but are not in it.
  double worst = 0;
};

// How additive scores have their tanh.
enum class Tanh { kExact, kSeries };

// Of the kernel that computes the problem here.
Tanh tanh_of(const BuiltProblem& built);

// Under top-k selection the index is judged first: a key that is left out may score better than one
// that is taken by what fp32 scores may confuse, and no more. Everything else is then judged as
// soft attention over the keys that were taken.

// The oracle's answer to a problem, and what may differ from it.
class Tolerance {
 public:
  // Reads the inputs that `problem` points to.
  explicit Tolerance(const host::attention::Problem& problem, Tanh tanh = Tanh::kExact);
  // Of the problem as it is computed here.
  explicit Tolerance(const BuiltProblem& built)
      : Tolerance(built.oracle_problem(), tanh_of(built)) {}

  // Of the outputs that are present in `got`.
  Judgement judge(const BuiltProblem& got) const;
  std::string faults(const BuiltProblem& got) const { return judge(got).wrong; }

  const reference::Result& oracle() const { return oracle_; }
  bool row_is_empty(size_t row) const { return oracle_.index[row] < 0; }

 private:
  // An upper bound of what fp32 arithmetic may do to one row.
  struct RowBound {
    std::vector<double> score;   // of |s - s64|, per key
    double lse = 0;              // of |LSE - LSE64|
    double normaliser = 0;       // relative, of the sum of weights
    std::vector<double> weight;  // relative, per key
    std::vector<double> p;       // the probabilities themselves, fp64
  };

  // Of one key: the norm of its row of K, the largest finite |v| of its row of V.
  struct KeySize {
    double k, largest_v;
  };

  void bound_row(int64_t b, int64_t h, int64_t i, const KeySize* keys);
  double series_error(int64_t h);
  void allow_row(int64_t b, int64_t h, int64_t i);
  size_t row_at(int64_t b, int64_t h, int64_t i) const {
    return static_cast<size_t>((b * p_.heads_q + h) * p_.s_q + i);
  }
  double score(size_t row, int64_t j) const {  // after bias and mask, fp64
    return scores_.weights[row * static_cast<size_t>(p_.s_kv) + static_cast<size_t>(j)];
  }
  double probability(size_t row, int64_t j) const;
  const double* magnitudes(int64_t b, int64_t h, int64_t j) const {  // of row j of V
    return &v_[static_cast<size_t>(
        ((b * p_.heads_kv + h / (p_.heads_q / p_.heads_kv)) * p_.s_kv + j) * p_.d_v)];
  }

  // Each adds what it sees to *worst.
  std::string check_o(const std::vector<double>& o, double* worst) const;
  std::string check_lse(const std::vector<double>& lse, double* worst) const;
  std::string check_weights(const std::vector<double>& weights, qkv_type type, double* worst) const;
  std::string check_statistics(const std::vector<double>& o) const;
  std::string check_bias(const std::vector<double>& o, bool away) const;
  std::string check_hard(const BuiltProblem& got) const;
  std::string check_top_row(size_t row, const int64_t* index, const double* scores) const;
  std::string check_top(const BuiltProblem& got) const;
  Judgement judge_top(const BuiltProblem& got) const;
  Judgement judge_outputs(const BuiltProblem& got) const;
  void record_accuracy(const BuiltProblem& got) const;
  std::string element(const char* name, size_t row, int64_t last) const;

  host::attention::Problem p_;
  reference::Result oracle_, lowp_;
  reference::Result scores_;  // the oracle with its scores after bias and mask
  std::vector<double> v_;     // |V|
  std::vector<RowBound> bounds_;
  std::vector<double> allowed_o_;  // by rule c
  double largest_score_ = 0, largest_v_ = 0;
  Tanh tanh_;
  double series_rms_ = 0;  // of a score's error, by a series of tanh; the largest of all heads
};

}  // namespace qkv::verify
