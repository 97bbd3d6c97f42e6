#include "bench/check.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <tuple>

#include "host/core/numeric.h"
#include "host/ops/attention/reference/selected.h"

namespace qkv::bench {
namespace {

using host::View;
using host::attention::kTensors;
using host::attention::Problem;
using host::attention::TensorRow;

constexpr double kE = 0x1p-24;      // unit roundoff of fp32
constexpr double kLambda = 6;       // of the probabilistic bound of a sum's error
constexpr double kTiny = 0x1p-126;  // what fp32 arithmetic may flush to zero
constexpr double kInf = std::numeric_limits<double>::infinity();

// The same tensor from row i of head h of batch b on, with the extents given.
View part(const View& view, int64_t b, int64_t h, int64_t i, int64_t rows) {
  if (!view.present()) return view;
  View out = view;
  const int64_t bytes = view.offset(b, h, i) * host::type_size(view.type);
  out.data = static_cast<std::byte*>(view.data) + bytes;
  out.shape = {1, 1, rows, view.shape[3]};
  return out;
}

// What unfused code can compute as well.
bool plain(const Problem& p) {
  return p.score == QKV_SCORE_DOT && p.selection == QKV_SELECT_SOFT && p.softcap == 0 &&
         std::none_of(kTensors.begin(), kTensors.end(), [&](const TensorRow& row) {
           return is_optional_input(row) && (p.*row.view).present();
         });
}

double load(const View& view, int64_t offset) {
  const void* base = view.data;
  switch (view.type) {
    case QKV_TYPE_F32:
      return static_cast<const float*>(base)[offset];
    case QKV_TYPE_F16:
      return to_float(static_cast<const host::Half*>(base)[offset]);
    case QKV_TYPE_BF16:
      return to_float(static_cast<const host::Bfloat*>(base)[offset]);
    case QKV_TYPE_I32:
      return static_cast<const int32_t*>(base)[offset];
    default:  // an index; fp64 holds every one
      return static_cast<double>(static_cast<const int64_t*>(base)[offset]);
  }
}

float round_to(qkv_type type, float x) {
  if (type == QKV_TYPE_F16) return to_float(host::from_float<host::Half>(x));
  if (type == QKV_TYPE_BF16) return to_float(host::from_float<host::Bfloat>(x));
  return x;
}

double epsilon(qkv_type type) {
  if (type == QKV_TYPE_F32) return 0x1p-23;
  return type == QKV_TYPE_F16 ? 0x1p-10 : 0x1p-7;
}

// The first and the last row of all, then rows at the ends, at the edges of likely tiles and spread
// between, heads and batches in turn.
std::vector<std::tuple<int64_t, int64_t, int64_t>> sample(const Problem& p) {
  if (p.empty()) return {};
  std::vector<int64_t> queries{0, 1, 63, 64, 127, 128, 191, p.s_q - 129, p.s_q - 2, p.s_q - 1};
  constexpr int64_t kSpread = 22;
  for (int64_t n = 0; n < kSpread; ++n) queries.push_back((2 * n + 1) * p.s_q / (2 * kSpread));
  std::vector<std::tuple<int64_t, int64_t, int64_t>> out{{0, 0, 0},
                                                         {p.batch - 1, p.heads_q - 1, p.s_q - 1}};
  int64_t turn = 0;
  for (const int64_t i : queries) {
    if (i < 0 || i >= p.s_q) continue;
    out.emplace_back(turn % p.batch, (p.heads_q - 1 + 5 * turn) % p.heads_q, i);
    ++turn;
  }
  return out;
}

double norm(const View& view, int64_t row, int64_t width) {
  double sum = 0;
  for (int64_t d = 0; d < width; ++d) {
    const double x = load(view, view.offset(0, 0, row, d));
    sum += x * x;
  }
  return std::sqrt(sum);
}

// An infinity must be the same one, a NaN is never right.
bool near(double got, double want, double allowed) {
  return got == want || (std::isfinite(want) && std::abs(got - want) <= allowed);
}

std::string element(const char* name, int64_t b, int64_t h, int64_t i, int64_t d) {
  return host::text(name, "[", b, "][", h, "][", i, "][", d, "]");
}

std::string differs(const std::string& element, double got, double want, double allowed) {
  return host::text(element, " is ", got, ", the oracle says ", want, "; off by ",
                    std::abs(got - want), ", allowed is ", allowed);
}

// The first row with an element that `written` does not accept; empty: there is none. Inputs are
// finite, so O is.
template <class Written>
std::string first_unwritten(const char* name, const View& view, const Written& written) {
  if (!view.present()) return {};
  const auto& n = view.shape;
  const int64_t rows = n[0] * n[1] * n[2];
  int64_t first = rows;
#pragma omp parallel for schedule(static) reduction(min : first)
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = view.offset(row / n[2] / n[1], row / n[2] % n[1], row % n[2]);
    for (int64_t d = 0; d < n[3]; ++d)
      if (!written(load(view, at + d * view.stride[3]))) first = std::min(first, row);
  }
  if (first == rows) return {};
  return host::text("row [", first / n[2] / n[1], "][", first / n[2] % n[1], "][", first % n[2],
                    "] of ", name, " has an element that is impossible or was not written");
}

}  // namespace

Problem row_problem(const Problem& p, int64_t b, int64_t h, int64_t i) {
  Problem row = p;
  const int64_t h_kv = h / (p.heads_q / p.heads_kv);
  row.k = part(p.k, b, h_kv, 0, p.s_kv);
  row.v = part(p.v, b, h_kv, 0, p.s_kv);
  for (const TensorRow& tensor : kTensors) {
    if (tensor.view == &Problem::k || tensor.view == &Problem::v) continue;
    row.*tensor.view = part(p.*tensor.view, b, h, i, 1);
  }
  row.batch = row.heads_q = row.heads_kv = row.s_q = 1;
  const int64_t length = p.length(b);
  row.alignment = QKV_ALIGN_EXPLICIT;
  row.explicit_offset = i + p.offset(length);
  return row;
}

std::vector<double> with_rounded_scores(const Problem& p) {
  const host::attention::KeyRange keys = host::attention::visible_keys(p, 0, p.s_kv);
  std::vector<float> weights;
  float largest = -std::numeric_limits<float>::infinity();
  for (int64_t j = keys.begin; j < keys.end; ++j) {
    float dot = 0;
    for (int64_t d = 0; d < p.d_qk; ++d) {
      dot += static_cast<float>(load(p.q, d) * load(p.k, p.k.offset(0, 0, j, d)));
    }
    weights.push_back(round_to(p.type, p.scale * dot));
    largest = std::max(largest, weights.back());
  }
  float sum = 0;
  for (float& w : weights) sum += w = std::exp(w - largest);
  std::vector<double> o;
  for (int64_t d = 0; d < p.d_v; ++d) {
    float element = 0;
    for (int64_t j = keys.begin; j < keys.end; ++j) {
      const float weight = round_to(p.type, weights[static_cast<size_t>(j - keys.begin)] / sum);
      element += weight * static_cast<float>(load(p.v, p.v.offset(0, 0, j, d)));
    }
    o.push_back(round_to(p.type, element));
  }
  return o;
}

Reference::Reference(const Problem& problem, bool by_series)
    : problem_(problem), by_series_(by_series) {
  for (const auto& [b, h, i] : sample(problem)) {
    Row row{};
    row.b = b, row.h = h, row.i = i;
    rows_.push_back(row);
  }
#pragma omp parallel for schedule(dynamic)
  for (size_t n = 0; n < rows_.size(); ++n) {
    Row& row = rows_[n];
    row.problem = row_problem(problem_, row.b, row.h, row.i);
    Problem masked = row.problem;
    masked.weights_mode = QKV_WEIGHTS_MASKED;
    row.exact = reference::attention(masked);
    row.scores = row.exact.weights;
    if (problem.weights.present()) row.exact = reference::attention(row.problem);
    const bool top = problem.selection == QKV_SELECT_TOP_K;
    row.low_precision =
        reference::attention(
            top ? reference::OverSelected(row.problem, row.exact.top).problem : row.problem,
            reference::Precision::kInput)
            .o;
    if (plain(problem)) row.rounded_scores = with_rounded_scores(row.problem);
    bound_errors(&row);
  }
  derive_tolerances();
}

// A dot product of n fp32 terms errs by at most kLambda sqrt(n) kE sum|q||k|, but for a
// probability of 3e-8 (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019, theorem 3.1). Softcap,
// bias and ALiBi add a few roundings of their operands, tanh and exp at most 4 units. The same
// bounds hold the tests to the contract.
void Reference::bound_errors(Row* row) const {
  const Problem& p = row->problem;
  const bool dot = p.score == QKV_SCORE_DOT;
  const double scale = std::abs(static_cast<double>(p.scale));
  const double root = std::sqrt(static_cast<double>(p.d_qk));
  const int64_t best = row->exact.index[0];
  const double largest = best < 0 ? 0 : row->scores[static_cast<size_t>(best)];
  double fixed = dot ? norm(p.q, 0, p.d_qk) : 0;
  double squares = 0;
  for (int64_t d = 0; !dot && d < p.d_qk; ++d) {
    const double w = load(p.additive_weight, p.additive_weight.offset(0, 0, 0, d));
    fixed += std::abs(w), squares += w * w;
  }
  // A tanh errs by at most 2^-8, by 2^-11 in the root of the mean square.
  const double series =
      by_series_ ? scale * std::min(0x1p-8 * fixed, kLambda * 0x1p-11 * std::sqrt(squares)) : 0;

  for (int64_t j = 0; j < p.s_kv; ++j) {
    const double s = row->scores[static_cast<size_t>(j)];
    const double terms = scale * fixed * (dot ? norm(p.k, j, p.d_qk) : 1);
    double error = kE * terms * (kLambda * root + (dot ? 4 : 12)) + series;
    if (p.softcap > 0)
      error += p.type != QKV_TYPE_F32 && p.softcap <= 128
                   ? 20 * kE * p.softcap
                   : 8 * kE * std::min<double>(p.softcap, terms);
    if (p.bias.present()) error += 4 * kE * std::abs(load(p.bias, p.bias.offset(0, 0, 0, j)));
    if (p.alibi_slopes.present()) {
      const auto distance = static_cast<double>(std::llabs(p.explicit_offset) + p.s_kv);
      error += 4 * kE * std::abs(load(p.alibi_slopes, 0)) * distance;
    }
    const bool seen = s != -kInf;
    const bool taken = p.selection != QKV_SELECT_TOP_K ||
                       std::ranges::find(row->exact.top, j) != row->exact.top.end();
    if (seen) error += 4 * kE * std::abs(s);
    row->score_error.push_back(error);
    row->weight_error.push_back(seen ? error + 4 * kE * (2 + std::abs(s) + std::abs(largest)) : 0);
    if (seen && taken) row->sum_error += std::exp(s - row->exact.lse[0]) * row->weight_error.back();
  }
  row->sum_error += kE * (kLambda * std::sqrt(static_cast<double>(p.s_kv)) + 4);
}

void Reference::derive_tolerances() {
  double error = 0, error_rounded_scores = 0, largest = 0, largest_score = 0, largest_v = 0;
  double score_error = 0;
  for (const Row& row : rows_) {
    for (size_t d = 0; d < row.exact.o.size(); ++d) {
      const double exact = row.exact.o[d];
      error = std::max(error, std::abs(row.low_precision[d] - exact));
      if (!row.rounded_scores.empty())
        error_rounded_scores =
            std::max(error_rounded_scores, std::abs(row.rounded_scores[d] - exact));
      largest = std::max(largest, std::abs(exact));
    }
    for (int64_t j = 0; j < problem_.s_kv; ++j) {
      const auto at = static_cast<size_t>(j);
      if (row.scores[at] == -kInf) continue;
      largest_score = std::max(largest_score, std::abs(row.scores[at]));
      score_error = std::max(score_error, row.score_error[at]);
      for (int64_t d = 0; d < problem_.d_v; ++d)
        largest_v =
            std::max(largest_v, std::abs(load(row.problem.v, row.problem.v.offset(0, 0, j, d))));
    }
  }
  double floor = epsilon(problem_.type) * largest + 2 * kE * (1 + largest_score) * largest_v;
  // libm rounds tanh to 1 unit, vector code to 3: the textbook's error says little of it.
  const bool has_tanh = problem_.softcap > 0 || problem_.score == QKV_SCORE_ADDITIVE;
  if (has_tanh) floor += 2 * score_error * largest_v;
  tolerance_ = 2 * error + floor;
  tolerance_rounded_scores_ = 2 * error_rounded_scores + floor;
}

std::string Reference::check_o(const Row& row, double tolerance) const {
  const View& o = row.problem.o;
  if (row.exact.index[0] < 0) tolerance = 0;  // it sees no key
  for (size_t d = 0; d < row.exact.o.size(); ++d) {
    const auto at = static_cast<int64_t>(d);
    const double got = load(o, o.offset(0, 0, 0, at)), want = row.exact.o[d];
    if (!near(got, want, tolerance))
      return differs(element("O", row.b, row.h, row.i, at), got, want, tolerance);
  }
  return {};
}

std::string Reference::check_lse(const Row& row) const {
  const double got = load(row.problem.lse, 0), want = row.exact.lse[0];
  const int64_t best = row.exact.index[0];
  double cost = 0;
  if (best >= 0)
    cost = problem_.selection == QKV_SELECT_HARD ? row.score_error[static_cast<size_t>(best)]
                                                 : row.sum_error + 4 * kE * std::abs(want);
  const double allowed = std::max(1e-5 * (1 + std::abs(want)), cost);
  if (near(got, want, allowed)) return {};
  return differs(element("LSE", row.b, row.h, row.i, 0), got, want, allowed);
}

std::string Reference::check_weights(const Row& row) const {
  const View& weights = row.problem.weights;
  const bool probabilities = problem_.weights_mode == QKV_WEIGHTS_PROBABILITIES;
  if (probabilities && problem_.selection == QKV_SELECT_HARD) return {};  // check_hard does it
  for (int64_t j = 0; j < problem_.s_kv; ++j) {
    const auto at = static_cast<size_t>(j);
    const double got = load(weights, weights.offset(0, 0, 0, j)), want = row.exact.weights[at];
    double allowed = row.score_error[at];
    if (probabilities)
      allowed = want == 0 ? 0 : want * (row.weight_error[at] + row.sum_error) + kTiny;
    if (want != 0) allowed += epsilon(weights.type) * std::abs(want) / 2;
    // The smallest number of the type: below its normal numbers the last place stays where it is.
    if (want != 0 && weights.type == QKV_TYPE_F16) allowed += 0x1p-25;
    const bool beyond = weights.type == QKV_TYPE_F16 && std::abs(want) >= 65504;
    if (near(got, want, allowed)) continue;
    if (beyond && got == round_to(weights.type, static_cast<float>(want))) continue;
    return differs(element("weights", row.b, row.h, row.i, j), got, want, allowed);
  }
  return {};
}

std::string Reference::check_hard(const Row& row) const {
  const Problem& p = row.problem;
  const int64_t best = row.exact.index[0];
  const bool one_hot = p.weights.present() && p.weights_mode == QKV_WEIGHTS_PROBABILITIES;
  const auto may_be_best = [&](int64_t j) {
    if (best < 0 || j == best) return j == best;
    if (j < 0 || j >= p.s_kv) return false;
    const auto at = static_cast<size_t>(j), of_best = static_cast<size_t>(best);
    return row.scores[of_best] - row.scores[at] <= row.score_error[of_best] + row.score_error[at];
  };
  const auto matches = [&](int64_t j) {
    for (int64_t d = 0; d < p.d_v; ++d) {
      const double want = j < 0 ? 0 : load(p.v, p.v.offset(0, 0, j, d));
      if (load(p.o, p.o.offset(0, 0, 0, d)) != want) return false;
    }
    for (int64_t other = 0; one_hot && other < p.s_kv; ++other)
      if (load(p.weights, p.weights.offset(0, 0, 0, other)) != (other == j ? 1 : 0)) return false;
    return true;
  };
  if (p.index.present()) {
    const auto j = static_cast<int64_t>(load(p.index, 0));
    if (!may_be_best(j))
      return host::text(element("index", row.b, row.h, row.i, 0), " is ", j, ", the oracle says ",
                        best);
    if (matches(j)) return {};
    return host::text(element("O", row.b, row.h, row.i, 0), " or the weights are not those of key ",
                      j, ", which the index names");
  }
  for (int64_t j = -1; j < p.s_kv; ++j)
    if (may_be_best(j) && matches(j)) return {};
  return host::text(element("O", row.b, row.h, row.i, 0), " or the weights are not those of key ",
                    best);
}

std::string Reference::check_outputs(const Row& row, double tolerance) const {
  std::string wrong = check_o(row, tolerance);
  if (wrong.empty() && problem_.lse.present()) wrong = check_lse(row);
  if (wrong.empty() && problem_.weights.present()) wrong = check_weights(row);
  return wrong;
}

std::string Reference::check_top(const Row& row) const {
  const Problem& p = row.problem;
  std::vector<int64_t> taken = row.exact.top;
  for (size_t n = 0; n < taken.size() && p.index.present(); ++n)
    taken[n] = static_cast<int64_t>(load(p.index, static_cast<int64_t>(n)));
  double worst = kInf;
  for (size_t n = 0; n < taken.size(); ++n) {
    const int64_t j = taken[n];
    const std::string what = element("index", row.b, row.h, row.i, static_cast<int64_t>(n));
    if ((j < 0) != (row.exact.top[n] < 0) || j >= p.s_kv)
      return host::text(what, " is ", j, ", the oracle says ", row.exact.top[n]);
    if (j < 0) continue;
    const auto at = static_cast<size_t>(j);
    const double score = row.scores[at], error = row.score_error[at];
    if (score == -kInf || std::count(taken.begin(), taken.end(), j) > 1)
      return host::text(what, " is ", j, ", a hidden key or one that stands there twice");
    worst = std::min(worst, score + error);
    if (!p.top_scores.present() || !p.index.present()) continue;
    const double got = load(p.top_scores, static_cast<int64_t>(n));
    if (!near(got, score, error))
      return differs(element("top_scores", row.b, row.h, row.i, static_cast<int64_t>(n)), got,
                     score, error);
  }
  for (int64_t j = 0; j < p.s_kv && taken.back() >= 0; ++j) {
    const auto at = static_cast<size_t>(j);
    if (row.scores[at] - row.score_error[at] <= worst) continue;
    if (std::ranges::find(taken, j) != taken.end()) continue;
    return host::text("key ", j, " is left out of ", element("index", row.b, row.h, row.i, 0),
                      ", it scores ", row.scores[at], ", the worst one at most ", worst);
  }
  if (!p.index.present()) {  // near ties, which only the index would tell
    for (int64_t j = 0; j < p.s_kv && taken.back() >= 0; ++j) {
      const auto at = static_cast<size_t>(j);
      if (std::ranges::find(taken, j) == taken.end() &&
          row.scores[at] + 2 * row.score_error[at] >= worst)
        return {};
    }
  }
  Row own = row;
  reference::Result soft = reference::attention(reference::OverSelected(p, taken).problem);
  if (p.weights.present() && p.weights_mode != QKV_WEIGHTS_PROBABILITIES)
    soft.weights = row.exact.weights;
  own.exact = std::move(soft);
  return check_outputs(own, tolerance_);
}

std::string Reference::check(bool rounded_scores) const {
  const auto number = [](double x) { return !std::isnan(x); };
  const auto finite = [](double x) { return std::isfinite(x); };
  const auto key = [&](double x) { return x >= -1 && x < static_cast<double>(problem_.s_kv); };
  std::string wrong = first_unwritten("O", problem_.o, finite);
  if (wrong.empty()) wrong = first_unwritten("LSE", problem_.lse, number);
  if (wrong.empty()) wrong = first_unwritten("index", problem_.index, key);
  if (wrong.empty()) wrong = first_unwritten("weights", problem_.weights, number);
  if (wrong.empty()) wrong = first_unwritten("top_scores", problem_.top_scores, number);
  for (const Row& row : rows_) {
    if (!wrong.empty()) break;
    if (problem_.selection == QKV_SELECT_TOP_K) {
      wrong = check_top(row);
      continue;
    }
    wrong = problem_.selection == QKV_SELECT_HARD
                ? check_hard(row)
                : check_o(row, rounded_scores ? tolerance_rounded_scores_ : tolerance_);
    if (wrong.empty() && problem_.lse.present()) wrong = check_lse(row);
    if (wrong.empty() && problem_.weights.present()) wrong = check_weights(row);
  }
  return wrong;
}

}  // namespace qkv::bench
