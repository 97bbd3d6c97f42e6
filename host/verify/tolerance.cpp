#include "host/verify/tolerance.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "host/ops/attention/reference/selected.h"

namespace qkv::verify {
namespace {

constexpr double kE = 0x1p-24;       // unit roundoff of fp32
constexpr double kLambda = 6;        // of the probabilistic error bound
constexpr float kFastSoftcap = 128;  // of 16-bit types, whose error is a part of the cap: qkv.h
constexpr double kTiny = 0x1p-126;   // what fp32 arithmetic may flush to zero

double element_of(const host::View& view, int64_t b, int64_t h, int64_t i, int64_t d) {
  const auto* base = static_cast<const std::byte*>(view.data);
  return load(view.type, base + view.offset(b, h, i, d) * host::type_size(view.type));
}

enum class Kind { kFinite, kNaN, kPositiveInf, kNegativeInf };

Kind kind(double x) {
  if (std::isnan(x)) return Kind::kNaN;
  if (std::isinf(x)) return x > 0 ? Kind::kPositiveInf : Kind::kNegativeInf;
  return Kind::kFinite;
}

double norm(const host::View& view, int64_t b, int64_t h, int64_t i, int64_t width) {
  double sum = 0;
  for (int64_t d = 0; d < width; ++d) {
    const double x = element_of(view, b, h, i, d);
    sum += x * x;
  }
  return std::sqrt(sum);
}

struct Sums {
  double worst = 0, squares = 0;

  void add(double error) {
    worst = std::max(worst, std::abs(error));
    squares += error * error;
  }
};

// Adds one error to the largest quotient. Where nothing is allowed, nothing may be wrong.
void add_error(double error, double allowed, double* worst) {
  const double quotient = error == 0 ? 0 : allowed > 0 ? error / allowed : kInf;
  *worst = std::max(*worst, std::isnan(quotient) ? kInf : quotient);
}

reference::Result with_scores(host::attention::Problem problem) {
  problem.weights_mode = QKV_WEIGHTS_MASKED;
  return reference::attention(problem);
}

// Of tanh by a series: the largest error, and the root of the mean square.
constexpr double kSeriesMost = 0x1p-8, kSeriesRms = 0x1p-11;

}  // namespace

Tanh tanh_of(const BuiltProblem& built) {
  if (built.row().score != QKV_SCORE_ADDITIVE) return Tanh::kExact;
  const qkv_attention_desc desc = built.desc();
  qkv_query_result result{};
  result.struct_size = sizeof result;
  if (qkv_query(&desc, &result) != QKV_SUCCESS) return Tanh::kExact;
  return std::string(result.kernel) == "sm80_additive" ? Tanh::kSeries : Tanh::kExact;
}

Tolerance::Tolerance(const host::attention::Problem& problem, Tanh tanh)
    : p_(problem),
      oracle_(problem.weights.present() && problem.weights_mode != QKV_WEIGHTS_MASKED
                  ? reference::attention(problem)
                  : with_scores(problem)),
      lowp_(reference::attention(problem, reference::Precision::kInput)),
      scores_(problem.weights.present() && problem.weights_mode != QKV_WEIGHTS_MASKED
                  ? with_scores(problem)
                  : oracle_),
      tanh_(tanh) {
  std::vector<KeySize> keys;
  for (int64_t b = 0; b < p_.batch; ++b) {
    for (int64_t h = 0; h < p_.heads_kv; ++h) {
      for (int64_t j = 0; j < p_.s_kv; ++j) {
        double largest = 0;
        for (int64_t d = 0; d < p_.d_v; ++d) {
          v_.push_back(std::abs(element_of(p_.v, b, h, j, d)));
          if (std::isfinite(v_.back())) largest = std::max(largest, v_.back());
        }
        keys.push_back({norm(p_.k, b, h, j, p_.d_qk), largest});
      }
    }
  }
  bounds_.resize(oracle_.lse.size());
  allowed_o_.resize(oracle_.o.size());
  for (int64_t b = 0; b < p_.batch; ++b) {
    for (int64_t h = 0; h < p_.heads_q; ++h) {
      const int64_t h_kv = h / (p_.heads_q / p_.heads_kv);
      for (int64_t i = 0; i < p_.s_q; ++i) {
        bound_row(b, h, i, keys.data() + (b * p_.heads_kv + h_kv) * p_.s_kv);
        allow_row(b, h, i);
      }
    }
  }
}

// A score s = scale * sum_n x_n, then softcap, bias and ALiBi: the sum by the probabilistic bound,
// every later operation with an error of at most 4 e of its operands (their roundings, and 4 ulp
// for tanh; a softcap of up to kFastSoftcap with 16-bit types: 20 e of the cap, as
// kernels/core/warpgroup_scores.cuh counts). A weight 2^(s - m): the score's error, and the
// rounding of s, m and s - m.
void Tolerance::bound_row(int64_t b, int64_t h, int64_t i, const KeySize* keys) {
  const size_t row = row_at(b, h, i);
  RowBound& bound = bounds_[row];
  bound.score.assign(static_cast<size_t>(p_.s_kv), 0);
  bound.weight.assign(static_cast<size_t>(p_.s_kv), 0);
  bound.p.assign(static_cast<size_t>(p_.s_kv), 0);
  const double root = std::sqrt(static_cast<double>(p_.d_qk));
  const double scale = std::abs(static_cast<double>(p_.scale));
  const bool dot = p_.score == QKV_SCORE_DOT;
  double fixed = dot ? norm(p_.q, b, h, i, p_.d_qk) : 0;
  for (int64_t d = 0; !dot && d < p_.d_qk; ++d)
    fixed += std::abs(element_of(p_.additive_weight, 0, h, 0, d));

  const double by_series = tanh_ == Tanh::kSeries ? series_error(h) : 0;

  const double best = scores_.index[row] < 0 ? 0 : score(row, scores_.index[row]);
  for (int64_t j = 0; j < p_.s_kv; ++j) {
    const auto at = static_cast<size_t>(j);
    const double s = score(row, j);
    // Past the length nothing is read; hidden keys matter to the weights output only.
    if (kind(s) != Kind::kFinite && !p_.weights.present()) continue;
    const double terms = scale * fixed * (dot ? keys[at].k : 1);
    double error = kE * terms * (kLambda * root + (dot ? 4 : 12)) + by_series;
    if (p_.softcap > 0)
      error += p_.type != QKV_TYPE_F32 && p_.softcap <= kFastSoftcap
                   ? 20 * kE * p_.softcap
                   : 8 * kE * std::min<double>(p_.softcap, terms);
    const bool hidden = kind(s) != Kind::kFinite;
    if (p_.bias.present() && !hidden) error += 4 * kE * std::abs(element_of(p_.bias, b, h, i, j));
    if (p_.alibi_slopes.present()) {
      const double distance =
          static_cast<double>(p_.s_q + p_.s_kv + std::llabs(p_.explicit_offset));
      error += 4 * kE * std::abs(element_of(p_.alibi_slopes, b, h, 0, 0)) * distance;
    }
    bound.score[at] = error;
    if (kind(s) != Kind::kFinite) continue;
    bound.score[at] += 4 * kE * std::abs(s);
    bound.weight[at] = bound.score[at] + 4 * kE * (2 + std::abs(s) + std::abs(best));
    const double p = bound.p[at] = probability(row, j);
    bound.normaliser += p * bound.weight[at];
    if (p > 0) {
      largest_score_ = std::max(largest_score_, std::abs(s));
      largest_v_ = std::max(largest_v_, keys[at].largest_v);
    }
  }
  bound.normaliser += kE * (kLambda * std::sqrt(static_cast<double>(p_.s_kv)) + 4);
  bound.lse =
      p_.selection == QKV_SELECT_HARD
          ? (scores_.index[row] < 0 ? 0 : bound.score[static_cast<size_t>(scores_.index[row])])
          : bound.normaliser + 4 * kE * std::abs(scores_.lse[row]);
}

// What a series of tanh may do to a score of the head.
double Tolerance::series_error(int64_t h) {
  double sum = 0, squares = 0;
  for (int64_t d = 0; d < p_.d_qk; ++d) {
    const double w = std::abs(element_of(p_.additive_weight, 0, h, 0, d));
    sum += w, squares += w * w;
  }
  const double scale = std::abs(static_cast<double>(p_.scale));
  const double rms = scale * kSeriesRms * std::sqrt(squares);
  series_rms_ = std::max(series_rms_, rms);
  return std::min(scale * kSeriesMost * sum, kLambda * rms);
}

double Tolerance::probability(size_t row, int64_t j) const {
  if (p_.selection == QKV_SELECT_HARD) return scores_.index[row] == j ? 1 : 0;
  const double s = score(row, j);
  return s == -kInf ? 0 : std::exp(s - scores_.lse[row]);
}

// Rule c for every element of a row of O.
void Tolerance::allow_row(int64_t b, int64_t h, int64_t i) {
  const size_t row = row_at(b, h, i);
  const auto width = static_cast<size_t>(p_.d_v);
  const RowBound& bound = bounds_[row];
  const bool narrow = p_.type != QKV_TYPE_F32;
  // Of a weight below fp16's normal numbers, which P carried up by 2^15 may have, 2^-25 is lost.
  const double lost = (p_.type == QKV_TYPE_F16 ? 0x1p-40 : 0) + kTiny;
  const double best = scores_.index[row] < 0 ? 0 : score(row, scores_.index[row]);
  const double l = std::exp(scores_.lse[row] - best);
  double* allowed = allowed_o_.data() + row * width;
  for (int64_t j = 0; j < p_.s_kv; ++j) {
    if (score(row, j) == -kInf) continue;
    const double p = bound.p[static_cast<size_t>(j)];
    const double rounding = narrow ? 2 * unit_roundoff(p_.type) * p : 0;
    const double arithmetic =
        p * (bound.weight[static_cast<size_t>(j)] + bound.normaliser) + lost / l;
    const double* v = magnitudes(b, h, j);
    for (size_t d = 0; d < width; ++d) allowed[d] += (rounding + arithmetic) * v[d];
  }
  for (size_t d = 0; d < width; ++d) {
    const double o = oracle_.o[row * width + d];
    allowed[d] += bound.normaliser * std::abs(o) + ulp(p_.type, o) / 2;
  }
}

std::string Tolerance::element(const char* name, size_t row, int64_t last) const {
  const auto at = static_cast<int64_t>(row);
  return host::text(name, "[", at / p_.s_q / p_.heads_q, ", ", at / p_.s_q % p_.heads_q, ", ",
                    at % p_.s_q, ", ", last, "]");
}

std::string Tolerance::check_o(const std::vector<double>& o, double* worst) const {
  Sums ours, lowp;
  double largest = 0;
  size_t worst_at = 0;
  for (size_t at = 0; at < o.size(); ++at) {
    const auto width = static_cast<size_t>(p_.d_v);
    const size_t row = at / width;
    const auto d = static_cast<int64_t>(at % width);
    const double want = oracle_.o[at], rounded = round_to(p_.type, want);
    if (row_is_empty(row) && (o[at] != 0 || std::signbit(o[at]))) {
      *worst = kInf;
      return host::text(element("o", row, d), " is ", o[at], "; the row sees no key: +0");
    }
    if (kind(o[at]) != kind(rounded)) {
      *worst = kInf;
      return host::text(element("o", row, d), " is ", o[at], "; the oracle says ", want);
    }
    if (kind(rounded) != Kind::kFinite) continue;
    const double error = o[at] - want;
    if (std::abs(error) > ours.worst) worst_at = at;
    ours.add(error);
    lowp.add(lowp_.o[at] - want);
    largest = std::max(largest, std::abs(want));
    if (row_is_empty(row)) continue;
    add_error(std::abs(error), allowed_o_[at], worst);
    if (!(std::abs(error) <= allowed_o_[at])) {
      return host::text(element("o", row, d), " is ", o[at], "; the oracle says ", want,
                        ", the error ", std::abs(error), " exceeds ", allowed_o_[at], " (rule c)");
    }
  }
  // The floor: rounding O, rounding one score and its weight in fp32, its tanh by a series.
  const double floor =
      ulp(p_.type, largest) + 2 * (kE * (1 + largest_score_) + series_rms_) * largest_v_;
  add_error(ours.worst, 2 * lowp.worst + floor, worst);
  if (!(ours.worst <= 2 * lowp.worst + floor)) {
    return host::text(element("o", worst_at / static_cast<size_t>(p_.d_v),
                              static_cast<int64_t>(worst_at % static_cast<size_t>(p_.d_v))),
                      " has the largest error, ", ours.worst, "; the textbook algorithm has ",
                      lowp.worst, ", the floor is ", floor, " (rule a)");
  }
  return {};
}

std::string Tolerance::check_statistics(const std::vector<double>& o) const {
  if (o.size() < 4096 || oracle_.lse.size() < 64) return {};
  const size_t width = o.size() / oracle_.lse.size();
  std::vector<double> ours(oracle_.lse.size(), 0), lowp(oracle_.lse.size(), 0);  // squares, by row
  double all_ours = 0, all_lowp = 0;
  for (size_t at = 0; at < o.size(); ++at) {
    const double want = oracle_.o[at];
    if (!std::isfinite(want) || !std::isfinite(o[at])) return {};
    ours[at / width] += (o[at] - want) * (o[at] - want);
    lowp[at / width] += (lowp_.o[at] - want) * (lowp_.o[at] - want);
  }
  for (size_t row = 0; row < ours.size(); ++row) all_ours += ours[row], all_lowp += lowp[row];
  const bool has_tanh = p_.softcap > 0 || p_.score == QKV_SCORE_ADDITIVE;
  const double ratio = all_lowp == 0 ? 1 : all_ours / all_lowp;
  double variance = 0;  // of the ratio, by the delta method
  for (size_t row = 0; row < ours.size(); ++row) {
    const double part = (ours[row] - ratio * lowp[row]) / std::max(all_lowp, 1e-300);
    variance += part * part;
  }
  if (!has_tanh &&
      !(all_lowp == 0 ? all_ours == 0 : ratio <= 1.1 * 1.1 + 6 * std::sqrt(variance))) {
    return host::text("the RMS error of o is ", std::sqrt(ratio), " +- ", std::sqrt(variance) / 2,
                      " times that of the textbook algorithm (rule b)");
  }
  for (bool away : {false, true}) {
    const std::string biased = check_bias(o, away);
    if (!biased.empty()) {
      return host::text("the mean error of o ", away ? "away from zero " : "", biased, " (rule d)");
    }
  }
  return {};
}

// Errors of one row share its weights, errors of one column of V its values; the standard error
// allows for both (Cameron, Gelbach and Miller, Robust inference with multiway clustering, J. Bus.
// Econ. Stat. 29(2), 2011, without the subtrahend).
std::string Tolerance::check_bias(const std::vector<double>& o, bool away) const {
  if (p_.scale == 0) return {};  // scores without chance in them: errors repeat from row to row
  const size_t count = o.size();
  const auto error = [&](const std::vector<double>& of, size_t at) {
    const double d = of[at] - oracle_.o[at];
    return away ? d * std::copysign(1.0, oracle_.o[at]) : d;
  };
  const auto width = static_cast<size_t>(p_.d_v);
  const size_t rows = count / width;
  std::vector<double> of_row(rows, 0), of_column;
  of_column.resize(static_cast<size_t>(p_.batch * p_.heads_kv) * width, 0);
  const auto column = [&](size_t at) {
    const auto bh = static_cast<int64_t>(at / width) / p_.s_q;
    const int64_t b = p_.v.stride[0] == 0 ? 0 : bh / p_.heads_q;
    const int64_t h = p_.v.stride[1] == 0 ? 0 : bh % p_.heads_q / (p_.heads_q / p_.heads_kv);
    return static_cast<size_t>(b * p_.heads_kv + h) * width + at % width;
  };
  const auto n = static_cast<double>(count);
  double mean = 0, lowp_mean = 0, magnitude = 0;
  for (size_t at = 0; at < count; ++at) {
    mean += error(o, at) / n;
    lowp_mean += error(lowp_.o, at) / n;
    magnitude += std::abs(oracle_.o[at]) / n;
  }
  for (size_t at = 0; at < count; ++at) {
    of_row[at / width] += error(o, at) - mean;
    of_column[column(at)] += error(o, at) - mean;
  }
  double variance = 0;
  for (const auto* clusters : {&of_row, &of_column}) {
    if (clusters->size() < 64) return {};
    for (double sum : *clusters) variance += sum * sum / (n * n);
  }
  // A constant of the kernel, the scale, may be rounded once: that error has one sign everywhere.
  const double constant = kE * (1 + largest_score_) * magnitude;
  if (std::abs(mean) <= 2 * std::abs(lowp_mean) + 6 * std::sqrt(variance) + constant) return {};
  return host::text("is ", mean, ", its standard error ", std::sqrt(variance),
                    "; the textbook algorithm's is ", lowp_mean);
}

std::string Tolerance::check_lse(const std::vector<double>& lse, double* worst) const {
  for (size_t row = 0; row < lse.size(); ++row) {
    const double want = oracle_.lse[row];
    const auto what = [&] {
      return host::text(element("lse", row, 0), " is ", lse[row], "; the oracle says ", want);
    };
    if (kind(lse[row]) != kind(want)) {
      *worst = kInf;
      return what();
    }
    if (kind(want) != Kind::kFinite) continue;
    const double allowed = std::max(1e-5 * (1 + std::abs(want)), bounds_[row].lse);
    add_error(std::abs(lse[row] - want), allowed, worst);
    if (!(std::abs(lse[row] - want) <= allowed)) {
      return host::text(what(), ", more than ", allowed, " apart (rule e)");
    }
  }
  return {};
}

std::string Tolerance::check_weights(const std::vector<double>& weights, qkv_type type,
                                     double* worst) const {
  if (p_.selection == QKV_SELECT_HARD && p_.weights_mode == QKV_WEIGHTS_PROBABILITIES) return {};
  for (size_t at = 0; at < weights.size(); ++at) {
    const size_t row = at / static_cast<size_t>(p_.s_kv);
    const auto j = static_cast<int64_t>(at % static_cast<size_t>(p_.s_kv));
    const double want = oracle_.weights[at];
    const auto what = [&] {
      return host::text(element("weights", row, j), " is ", weights[at], "; the oracle says ",
                        want);
    };
    if (kind(weights[at]) != kind(round_to(type, want))) {
      *worst = kInf;
      return what();
    }
    if (kind(want) != Kind::kFinite) continue;
    const RowBound& bound = bounds_[row];
    double allowed = bound.score[static_cast<size_t>(j)];
    if (p_.weights_mode == QKV_WEIGHTS_PROBABILITIES) {
      allowed = want * (bound.weight[static_cast<size_t>(j)] + bound.normaliser) + kTiny;
      if (want == 0 && weights[at] != 0) return what();
    }
    allowed += ulp(type, want) / 2;
    add_error(std::abs(weights[at] - want), allowed, worst);
    if (!(std::abs(weights[at] - want) <= allowed)) {
      return host::text(what(), ", more than ", allowed, " apart");
    }
  }
  return {};
}

// The index names a key that is the best but for what fp32 scores may confuse; O is its row of V
// bit for bit, and the one-hot weights are its.
std::string Tolerance::check_hard(const BuiltProblem& got) const {
  const std::vector<double> index = got.index.dense(), weights = got.weights.dense();
  const bool one_hot = !weights.empty() && p_.weights_mode == QKV_WEIGHTS_PROBABILITIES;
  for (size_t row = 0; row < oracle_.index.size(); ++row) {
    const auto bh = static_cast<int64_t>(row) / p_.s_q, i = static_cast<int64_t>(row) % p_.s_q;
    const int64_t b = bh / p_.heads_q, h = bh % p_.heads_q, best = oracle_.index[row];
    const auto is_best = [&](int64_t j) {
      if (best < 0 || j == best) return j == best;
      if (j < 0 || j >= p_.s_kv || kind(score(row, j)) != Kind::kFinite) return false;
      const auto& error = bounds_[row].score;
      return score(row, best) - score(row, j) <=
             error[static_cast<size_t>(best)] + error[static_cast<size_t>(j)];
    };
    const auto matches = [&](int64_t j) {
      for (int64_t d = 0; d < p_.d_v; ++d) {
        const double o = got.o.get(b, h, i, d);
        const double v = j < 0 ? 0 : element_of(p_.v, b, h / (p_.heads_q / p_.heads_kv), j, d);
        if (kind(o) != kind(v) || (kind(o) == Kind::kFinite && o != v)) return false;
      }
      for (int64_t other = 0; one_hot && other < p_.s_kv; ++other) {
        const size_t at = row * static_cast<size_t>(p_.s_kv) + static_cast<size_t>(other);
        if (weights[at] != (other == j ? 1 : 0)) return false;
      }
      return true;
    };
    if (!index.empty()) {
      const auto j = static_cast<int64_t>(index[row]);
      if (!is_best(j)) {
        return host::text(element("index", row, 0), " is ", j, "; the oracle says ", best);
      }
      if (!matches(j))
        return host::text(element("o or weights", row, 0), " is not that of key ", j);
      continue;
    }
    bool found = best < 0 && matches(-1);
    for (int64_t j = 0; j < p_.s_kv && !found; ++j) found = is_best(j) && matches(j);
    if (!found) return host::text(element("o or weights", row, 0), " is not that of key ", best);
  }
  return {};
}

// One row of the index and, if there are any, of top_scores.
std::string Tolerance::check_top_row(size_t row, const int64_t* index, const double* scores) const {
  const auto error = [&](int64_t j) {
    const double s = score(row, j);
    return std::isfinite(s) ? bounds_[row].score[static_cast<size_t>(j)] : 0;
  };
  int64_t keys = 0;
  std::vector<int64_t> nans;
  for (int64_t j = 0; j < p_.s_kv; ++j) {
    keys += score(row, j) == -kInf ? 0 : 1;
    if (std::isnan(score(row, j))) nans.push_back(j);
  }
  const auto what = [&](int64_t n) {
    return host::text(element("index", row, n), " is ", index[n], ", ");
  };
  std::set<int64_t> taken;
  double worst = kInf;  // no key that is left out may clearly beat it
  for (int64_t n = 0; n < p_.top_k; ++n) {
    const int64_t j = index[n];
    if (n >= keys) {
      if (j != -1) return what(n) + host::text("the row has ", keys, " keys: -1");
      if (scores != nullptr && scores[n] != -kInf)
        return host::text(element("top_scores", row, n), " is ", scores[n], "; there is no key");
      continue;
    }
    if (j < 0 || j >= p_.s_kv || score(row, j) == -kInf) return what(n) + "no key of the row";
    if (!taken.insert(j).second) return what(n) + "which stands there twice";
    const double s = score(row, j);
    if (n < std::ssize(nans) ? j != nans[static_cast<size_t>(n)] : std::isnan(s))
      return what(n) + "keys that score NaN come first, in their order";
    if (!std::isnan(s)) worst = std::min(worst, s + error(j));
    if (n > std::ssize(nans) && s - error(j) > score(row, index[n - 1]) + error(index[n - 1]))
      return what(n) + "which scores better than the one before it";
    if (scores == nullptr) continue;
    if (kind(scores[n]) != kind(round_to(QKV_TYPE_F32, s)) ||
        (std::isfinite(s) && !(std::abs(scores[n] - s) <= error(j))))
      return host::text(element("top_scores", row, n), " is ", scores[n], "; the oracle says ", s,
                        ", ", error(j), " is allowed");
    if (n <= std::ssize(nans)) continue;
    if (!(scores[n] < scores[n - 1] || (scores[n] == scores[n - 1] && index[n - 1] < j)))
      return host::text(element("top_scores", row, n), " is ", scores[n], " of key ", j,
                        ", out of order");
  }
  for (int64_t j = 0; j < p_.s_kv; ++j) {
    const double s = score(row, j);
    if (std::isnan(s) || taken.contains(j) || std::ssize(taken) < p_.top_k) continue;
    if (s - error(j) > worst)
      return host::text("key ", j, " of ", element("index", row, 0), " is left out; it scores ", s,
                        ", the worst one that is taken at most ", worst);
  }
  return {};
}

std::string Tolerance::check_top(const BuiltProblem& got) const {
  const std::vector<double> dense = got.index.dense(), scores = got.top_scores.dense();
  const std::vector<int64_t> index(dense.begin(), dense.end());
  for (size_t row = 0; row < oracle_.index.size(); ++row) {
    const size_t at = row * static_cast<size_t>(p_.top_k);
    std::string wrong =
        check_top_row(row, index.data() + at, scores.empty() ? nullptr : scores.data() + at);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

// Adds the figures of an accepted result to the file QKV_ACCURACY: backend, type, and per case the
// largest error and the sum of squares, of O and of the textbook's, the largest |O|, and the
// largest error of LSE over 1 + |LSE|. tests/attention/accuracy.sh makes a table of them.
void Tolerance::record_accuracy(const BuiltProblem& got) const {
  static const char* path = std::getenv("QKV_ACCURACY");
  if (path == nullptr || p_.selection == QKV_SELECT_HARD) return;
  const std::vector<double> o = got.o.dense();
  Sums ours, lowp;
  double largest = 0, lse_error = 0;
  for (size_t at = 0; at < o.size(); ++at) {
    if (!std::isfinite(oracle_.o[at]) || !std::isfinite(lowp_.o[at])) continue;
    ours.add(o[at] - oracle_.o[at]);
    lowp.add(lowp_.o[at] - oracle_.o[at]);
    largest = std::max(largest, std::abs(oracle_.o[at]));
  }
  const std::vector<double> lse = got.lse.present() ? got.lse.dense() : std::vector<double>();
  for (size_t row = 0; row < lse.size(); ++row) {
    const double want = oracle_.lse[row];
    if (std::isfinite(want))
      lse_error = std::max(lse_error, std::abs(lse[row] - want) / (1 + std::abs(want)));
  }
  std::ofstream(path, std::ios::app)
      << (place().device() == QKV_DEVICE_CUDA ? "cuda" : "cpu") << '\t' << type_label(p_.type)
      << '\t' << ours.worst << '\t' << lowp.worst << '\t' << ours.squares << '\t' << lowp.squares
      << '\t' << largest << '\t' << lse_error << '\n';
}

// Top-k selection: the index, then the outputs over the keys that it names. Weights before the
// selection are those of all keys.
Judgement Tolerance::judge_top(const BuiltProblem& got) const {
  if (!got.index.present()) return {"top-k selection without an index: nothing judges near ties"};
  Judgement j;
  j.wrong = check_top(got);
  if (!j.wrong.empty()) return j;
  const std::vector<double> dense = got.index.dense();
  const reference::OverSelected soft(p_, {dense.begin(), dense.end()});
  j = Tolerance(soft.problem).judge_outputs(got);
  if (j.wrong.empty() && p_.weights.present() && p_.weights_mode != QKV_WEIGHTS_PROBABILITIES)
    j.wrong = check_weights(got.weights.dense(), got.weights.view.type, &j.worst);
  return j;
}

Judgement Tolerance::judge(const BuiltProblem& got) const {
  if (p_.selection == QKV_SELECT_TOP_K) return judge_top(got);
  Judgement j = judge_outputs(got);
  if (j.wrong.empty()) record_accuracy(got);
  return j;
}

Judgement Tolerance::judge_outputs(const BuiltProblem& got) const {
  Judgement j;
  const auto check = [&](auto&& rule) {
    if (j.wrong.empty()) j.wrong = rule();
  };
  if (p_.selection == QKV_SELECT_HARD) {
    check([&] { return check_hard(got); });
  } else {
    const std::vector<double> o = got.o.dense();
    check([&] { return check_o(o, &j.worst); });
    check([&] { return check_statistics(o); });
  }
  if (got.lse.present()) check([&] { return check_lse(got.lse.dense(), &j.worst); });
  if (p_.weights.present()) {
    check([&] { return check_weights(got.weights.dense(), got.weights.view.type, &j.worst); });
  }
  return j;
}

}  // namespace qkv::verify
