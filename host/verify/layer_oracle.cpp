// A layer in fp64, and how far an output may be from it. As in tolerance.h nothing is tuned. With u
// the unit roundoff of the tensors' type and e = 2^-24 that of fp32:
//
//   each element   |x - x64| <= what the roundings that qkv.h states may do: of Q, K, V and O by u,
//                  of P by 2 u, and of fp32 arithmetic, its sums by the bound of tolerance.h; a
//                  score may move by what moves q and k, a probability by twice that
//   y as a whole   max |y - y64| <= 2 max |lowp - y64| + floor, where lowp is the textbook layer
//                  with the same roundings: from 256 elements on
//   hard           the index names a key whose score is the best but for what may move scores; y is
//                  compared with what that choice makes of it
//   top-k          likewise: no key that is left out scores better than one that is taken, and y is
//                  that of soft attention over the keys that were taken
//
// The layer in fp64 stands for itself: its Q, K and V are rounded to fp32 alone, as the contract
// has it where the tensors are f32, and where they are 16 bits wide that is nothing.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "host/ops/attention/reference/attention.h"
#include "host/ops/attention/reference/selected.h"
#include "host/verify/layer_parts.h"

namespace qkv::verify {

using reference::Precision;

namespace {

constexpr double kE = 0x1p-24;
constexpr double kLambda = 6;

double sum_error(int64_t terms) {
  return kE * (kLambda * std::sqrt(static_cast<double>(terms)) + 4);
}

// [batch, heads, s, dim] elements of one type, and what each may be off by.
struct Dense {
  host::View view;
  std::vector<std::byte> bytes;
  std::vector<double> error;

  Dense(qkv_type type, int64_t b, int64_t h, int64_t s, int64_t d)
      : view{nullptr, type, {b, h, s, d}, {h * s * d, s * d, d, 1}},
        bytes(static_cast<size_t>(b * h * s * d * host::type_size(type))),
        error(static_cast<size_t>(b * h * s * d)) {
    view.data = bytes.data();
  }
  Dense(const Dense&) = delete;
  Dense& operator=(const Dense&) = delete;

  size_t at(int64_t b, int64_t h, int64_t i, int64_t d) const {
    return static_cast<size_t>(view.offset(b, h, i, d));
  }
  double get(size_t at) const {
    return load(view.type, bytes.data() + at * static_cast<size_t>(host::type_size(view.type)));
  }
  void set(size_t at, double x) {
    store(view.type, bytes.data() + at * static_cast<size_t>(host::type_size(view.type)), x);
  }
};

// One element of a product: x w + bias, in fp64 or as fp32 adds, and what fp32 may do to it.
struct Sum {
  double value = 0, size = 0;
  float narrow = 0;

  void add(double a, double b) {
    value += a * b;
    size += std::abs(a * b);
    narrow += static_cast<float>(a) * static_cast<float>(b);
  }
  void add_bias(double b) {
    value += b;
    size += std::abs(b);
    narrow += static_cast<float>(b);
  }
};

double element(const host::View& view, int64_t b, int64_t h, int64_t i, int64_t d) {
  return load(view.type, static_cast<const std::byte*>(view.data) +
                             view.offset(b, h, i, d) * host::type_size(view.type));
}

}  // namespace

class LayerOracle {
 public:
  LayerOracle(const BuiltLayer& got, Precision precision);

  // What is wrong with the outputs of `got`, of which this is the fp64 layer.
  Judgement judge(const LayerOracle& lowp) const;

 private:
  bool narrow() const { return precision_ == Precision::kInput; }
  void product(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t first, Dense* to);
  void attend();
  double score_error(int64_t b, int64_t h, int64_t i, int64_t j) const;
  void bound_row(int64_t b, int64_t h, int64_t i);
  void allow_row(int64_t b, int64_t h, int64_t i);
  void choose_row(int64_t b, int64_t h, int64_t i);
  void project_o();
  int64_t chosen(size_t row) const;
  std::string check_top_row(int64_t b, int64_t h, int64_t i) const;
  size_t row_at(int64_t b, int64_t h, int64_t i) const {
    return static_cast<size_t>((b * c_.heads_q + h) * c_.s_q + i);
  }

  const BuiltLayer& got_;
  const Case& c_;
  Precision precision_;
  Dense q_, k_, v_;
  host::attention::Problem problem_;
  reference::Result result_, scores_;
  std::optional<reference::OverSelected> over_;  // top-k: the problem by the keys that were taken,
  std::vector<double> all_scores_;               // and the scores that were to choose from
  std::vector<double> moved_;  // what a score may be off by, [batch, heads_q, s_q, s_kv]
  std::vector<double> lse_error_, p_error_;  // of each row; the latter relative
  std::vector<double> o_, o_error_;          // [batch, heads_q, s_q, d_v]
  std::vector<double> y_, y_error_;          // in the order of y's elements
  double gain_ = 1;                          // the largest row of w_o, summed
};

LayerOracle::LayerOracle(const BuiltLayer& got, Precision precision)
    : got_(got),
      c_(got.row_.attention),
      precision_(precision),
      q_(precision == Precision::kInput ? c_.type : QKV_TYPE_F32, c_.batch, c_.heads_q, c_.s_q,
         c_.d_qk),
      k_(q_.view.type, c_.batch, c_.heads_kv, c_.s_kv, c_.d_qk),
      v_(q_.view.type, c_.batch, c_.heads_kv, c_.s_kv, c_.d_v),
      problem_(got.middle_.oracle_problem()) {
  const Tensor& x_kv = got.x_kv.present() ? got.x_kv : got.x_q;
  if (got.row_.packed) {
    product(got.x_q, got.w_qkv, got.bias_qkv, 0, &q_);
    product(got.x_q, got.w_qkv, got.bias_qkv, c_.heads_q * c_.d_qk, &k_);
    product(got.x_q, got.w_qkv, got.bias_qkv, (c_.heads_q + c_.heads_kv) * c_.d_qk, &v_);
  } else {
    product(got.x_q, got.w_q, got.bias_q, 0, &q_);
    product(x_kv, got.w_k, got.bias_k, 0, &k_);
    product(x_kv, got.w_v, got.bias_v, 0, &v_);
  }
  attend();
  project_o();
}

// From row `first` of the weight on.
void LayerOracle::product(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t first,
                          Dense* to) {
  const auto& n = to->view.shape;
  const int64_t in = x.view.shape[3];
  const std::vector<double> xs = x.dense(), weights = weight.dense();
  for (int64_t b = 0; b < n[0]; ++b)
    for (int64_t h = 0; h < n[1]; ++h)
      for (int64_t i = 0; i < n[2]; ++i)
        for (int64_t d = 0; d < n[3]; ++d) {
          const int64_t row = first + h * n[3] + d;
          Sum sum;
          const double* const of_x = xs.data() + (b * n[2] + i) * in;
          const double* const of_weight = weights.data() + row * in;
          for (int64_t e = 0; e < in; ++e) sum.add(of_x[e], of_weight[e]);
          if (bias.present()) sum.add_bias(bias.get(0, 0, 0, row));
          const size_t at = to->at(b, h, i, d);
          to->set(at, narrow() ? static_cast<double>(sum.narrow) : sum.value);
          to->error[at] = sum_error(in + 1) * sum.size + ulp(c_.type, sum.value) / 2;
        }
}

void LayerOracle::attend() {
  problem_.type = q_.view.type;
  problem_.q = q_.view, problem_.k = k_.view, problem_.v = v_.view;
  problem_.o.type = q_.view.type;
  if (c_.selection == QKV_SELECT_TOP_K) {
    host::attention::Problem all = problem_;
    all.weights_mode = QKV_WEIGHTS_MASKED;
    all_scores_ = reference::attention(all, precision_).weights;
    const std::vector<double> taken = got_.middle_.index.dense();
    over_.emplace(problem_, std::vector<int64_t>(taken.begin(), taken.end()));
    problem_ = over_->problem;
  }
  result_ = reference::attention(problem_, precision_);
  host::attention::Problem masked = problem_;
  masked.weights_mode = QKV_WEIGHTS_MASKED;
  scores_ = reference::attention(masked, precision_);
  o_ = result_.o;
  o_error_.assign(o_.size(), 0);
  moved_.assign(static_cast<size_t>(c_.batch * c_.heads_q * c_.s_q * c_.s_kv), 0);
  lse_error_.assign(scores_.lse.size(), 0);
  p_error_ = lse_error_;
  for (int64_t b = 0; b < c_.batch; ++b)
    for (int64_t h = 0; h < c_.heads_q; ++h)
      for (int64_t i = 0; i < c_.s_q; ++i) {
        if (!narrow()) bound_row(b, h, i);
        if (c_.selection == QKV_SELECT_HARD)
          choose_row(b, h, i);
        else if (!narrow())
          allow_row(b, h, i);
      }
}

double LayerOracle::score_error(int64_t b, int64_t h, int64_t i, int64_t j) const {
  const int64_t h_kv = h / (c_.heads_q / c_.heads_kv);
  const bool dot = c_.score == QKV_SCORE_DOT;
  double moved = 0, size = 0;
  for (int64_t d = 0; d < c_.d_qk; ++d) {
    const size_t at_q = q_.at(b, h, i, d), at_k = k_.at(b, h_kv, j, d);
    const double q = std::abs(q_.get(at_q)), k = std::abs(k_.get(at_k));
    const double dq = q_.error[at_q], dk = k_.error[at_k];
    const double w = dot ? 0 : std::abs(element(problem_.additive_weight, 0, h, 0, d));
    moved += dot ? q * dk + k * dq + dq * dk : w * (dq + dk);
    size += dot ? q * k : w;
  }
  const double scale = std::abs(static_cast<double>(problem_.scale));
  double error = scale * (moved + size * (sum_error(c_.d_qk) + 12 * kE));
  if (c_.softcap > 0) error += 8 * kE * static_cast<double>(c_.softcap);
  if (problem_.bias.present()) error += 4 * kE * std::abs(element(problem_.bias, b, h, i, j));
  if (problem_.alibi_slopes.present()) {
    const auto distance = static_cast<double>(c_.s_q + c_.s_kv + std::abs(c_.offset));
    error += 4 * kE * std::abs(element(problem_.alibi_slopes, b, h, 0, 0)) * distance;
  }
  return error;
}

// The key that hard selection took; -1: none.
int64_t LayerOracle::chosen(size_t row) const {
  const Tensor& index = got_.middle_.index;
  if (!index.present()) return scores_.index[row];
  const auto at = static_cast<int64_t>(row);
  return static_cast<int64_t>(
      index.get(at / c_.s_q / c_.heads_q, at / c_.s_q % c_.heads_q, at % c_.s_q, 0));
}

// Top-k: as many keys as there are to take, each once, and of those that are left out none that is
// better by more than what may move scores.
std::string LayerOracle::check_top_row(int64_t b, int64_t h, int64_t i) const {
  const double* const scores = all_scores_.data() + row_at(b, h, i) * static_cast<size_t>(c_.s_kv);
  std::vector<char> taken(static_cast<size_t>(c_.s_kv));
  int64_t keys = 0, count = 0;
  for (int64_t j = 0; j < c_.s_kv; ++j) keys += scores[j] == -kInf ? 0 : 1;
  double worst = kInf;
  for (int64_t n = 0; n < c_.top_k; ++n) {
    const auto j = static_cast<int64_t>(got_.middle_.index.get(b, h, i, n));
    if (j == -1) continue;
    if (j < 0 || j >= c_.s_kv || scores[j] == -kInf || taken[static_cast<size_t>(j)] != 0)
      return host::text("index[", b, ", ", h, ", ", i, ", ", n, "] is ", j);
    taken[static_cast<size_t>(j)] = 1;
    ++count;
    worst = std::min(worst, scores[j] + score_error(b, h, i, j));
  }
  if (count != std::min(keys, c_.top_k))
    return host::text("index[", b, ", ", h, ", ", i, ", :] has ", count, " of ", keys, " keys");
  for (int64_t j = 0; count == c_.top_k && j < c_.s_kv; ++j)
    if (taken[static_cast<size_t>(j)] == 0 && scores[j] - score_error(b, h, i, j) > worst)
      return host::text("index[", b, ", ", h, ", ", i, ", :] lacks key ", j, ", which scores ",
                        scores[j], "; the worst one at most ", worst);
  return {};
}

// Everything that may move in a row of scores, and what follows for LSE and probabilities.
void LayerOracle::bound_row(int64_t b, int64_t h, int64_t i) {
  const size_t row = row_at(b, h, i), keys = static_cast<size_t>(c_.s_kv);
  const double* const scores = scores_.weights.data() + row * keys;
  double most = 0;
  for (size_t j = 0; j < keys; ++j) {
    // Past the length nothing is read, but for the weights output.
    if (scores[j] == -kInf && !problem_.scores_all_keys()) continue;
    double& moved = moved_[row * keys + j] = score_error(b, h, i, static_cast<int64_t>(j));
    if (scores[j] == -kInf) continue;
    moved += 8 * kE * (1 + std::abs(scores[j]));
    most = std::max(most, moved);
  }
  lse_error_[row] = most + sum_error(c_.s_kv) + 4 * kE * std::abs(scores_.lse[row]);
  p_error_[row] = std::expm1(2 * most) + 2 * sum_error(c_.s_kv);
}

// What may be wrong with a row of O: probabilities, which are rounded too, V, and the result.
void LayerOracle::allow_row(int64_t b, int64_t h, int64_t i) {
  const size_t row = row_at(b, h, i), keys = static_cast<size_t>(c_.s_kv);
  const int64_t h_kv = h / (c_.heads_q / c_.heads_kv);
  const double* const scores = scores_.weights.data() + row * keys;
  const double rounding = c_.type == QKV_TYPE_F32 ? 0 : 2 * unit_roundoff(c_.type);
  double* const errors = o_error_.data() + row * static_cast<size_t>(c_.d_v);
  for (size_t j = 0; j < keys; ++j) {
    if (scores[j] == -kInf) continue;
    const double p = std::exp(scores[j] - scores_.lse[row]);
    for (int64_t d = 0; d < c_.d_v; ++d) {
      const size_t at = v_.at(b, h_kv, static_cast<int64_t>(j), d);
      errors[d] += p * ((p_error_[row] + rounding) * std::abs(v_.get(at)) + v_.error[at]);
    }
  }
  for (int64_t d = 0; d < c_.d_v; ++d)
    errors[d] += ulp(c_.type, o_[row * static_cast<size_t>(c_.d_v) + static_cast<size_t>(d)]) / 2;
}

// A row of O is the chosen row of V.
void LayerOracle::choose_row(int64_t b, int64_t h, int64_t i) {
  const size_t row = row_at(b, h, i);
  const int64_t one = chosen(row), h_kv = h / (c_.heads_q / c_.heads_kv);
  if (one < 0 || one >= c_.s_kv) return;
  for (int64_t d = 0; d < c_.d_v; ++d) {
    const size_t at = row * static_cast<size_t>(c_.d_v) + static_cast<size_t>(d);
    const size_t at_v = v_.at(b, h_kv, one, d);
    o_[at] = v_.get(at_v);
    o_error_[at] = v_.error[at_v];
  }
}

void LayerOracle::project_o() {
  const Tensor& y = got_.y;
  const std::vector<double> weights = got_.w_o.dense();
  const auto o_at = [&](int64_t b, int64_t h, int64_t i, int64_t d) {
    return row_at(b, h, i) * static_cast<size_t>(c_.d_v) + static_cast<size_t>(d);
  };
  y.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    if (!got_.w_o.present()) {
      y_.push_back(o_[o_at(b, h, i, d)]);
      y_error_.push_back(o_error_[o_at(b, h, i, d)]);
      return;
    }
    Sum sum;
    double moved = 0, gain = 0;
    for (int64_t c = 0; c < c_.heads_q * c_.d_v; ++c) {
      const double w = weights[static_cast<size_t>(d * c_.heads_q * c_.d_v + c)];
      const size_t at = o_at(b, c / c_.d_v, i, c % c_.d_v);
      sum.add(o_[at], w);
      moved += std::abs(w) * o_error_[at];
      gain += std::abs(w);
    }
    if (got_.bias_o.present()) sum.add_bias(got_.bias_o.get(0, 0, 0, d));
    gain_ = std::max(gain_, gain);
    y_.push_back(narrow() ? round_to(c_.type, sum.narrow) : sum.value);
    y_error_.push_back(moved + sum_error(c_.heads_q * c_.d_v + 1) * sum.size +
                       ulp(c_.type, sum.value) / 2);
  });
}

Judgement LayerOracle::judge(const LayerOracle& lowp) const {
  Judgement out;
  const auto compare = [&](const char* name, size_t at, double got, double want, double allowed) {
    if (got == want) return;
    const double quotient = std::abs(got - want) / allowed;
    out.worst = std::max(out.worst, std::isnan(quotient) ? kInf : quotient);
    if (quotient <= 1 || !out.wrong.empty()) return;
    out.wrong = host::text("element ", at, " of ", name, " is ", got, "; fp64 says ", want, ", ",
                           allowed, " is allowed");
  };
  const std::vector<double> y = got_.y.dense();
  double worst = 0, worst_lowp = 0, largest = 0, largest_v = 0, largest_score = 0;
  for (size_t at = 0; at < y.size(); ++at) {
    compare("y", at, y[at], y_[at], y_error_[at]);
    worst = std::max(worst, std::abs(y[at] - y_[at]));
    worst_lowp = std::max(worst_lowp, std::abs(lowp.y_[at] - y_[at]));
    largest = std::max(largest, std::abs(y_[at]));
  }
  for (const double s : scores_.weights)
    if (std::isfinite(s)) largest_score = std::max(largest_score, std::abs(s));
  for (const double o : o_) largest_v = std::max(largest_v, std::abs(o));
  const double floor = ulp(c_.type, largest) + 2 * kE * (1 + largest_score) * largest_v * gain_;
  if (y.size() >= 256) compare("y, the worst one,", 0, worst, 0, 2 * worst_lowp + floor);

  const std::vector<double> lse = got_.middle_.lse.dense(), weights = got_.middle_.weights.dense();
  for (size_t row = 0; row < lse.size(); ++row)
    compare("lse", row, lse[row], scores_.lse[row],
            lse_error_[row] + 1e-5 * (1 + std::abs(scores_.lse[row])));
  const size_t keys = static_cast<size_t>(c_.s_kv);
  const bool probabilities = problem_.weights_mode == QKV_WEIGHTS_PROBABILITIES;
  const bool hard = c_.selection == QKV_SELECT_HARD;
  for (size_t at = 0; at < weights.size(); ++at) {
    const size_t row = at / keys;
    const double want = !hard || !probabilities                          ? result_.weights[at]
                        : chosen(row) == static_cast<int64_t>(at % keys) ? 1
                                                                         : 0;
    const double moved = probabilities ? (hard ? 0 : want * p_error_[row]) : moved_[at];
    compare("weights", at, weights[at], want,
            moved + ulp(got_.middle_.weights.view.type, want) / 2);
  }
  for (int64_t b = 0; over_.has_value() && b < c_.batch; ++b)
    for (int64_t h = 0; h < c_.heads_q; ++h)
      for (int64_t i = 0; i < c_.s_q; ++i)
        if (out.wrong.empty()) out.wrong = check_top_row(b, h, i);
  for (size_t row = 0; hard && row < scores_.index.size(); ++row) {
    const int64_t best = scores_.index[row], own = chosen(row);
    const double* const scores = scores_.weights.data() + row * keys;
    const double* const moved = moved_.data() + row * keys;
    if (best == own) continue;
    if (best < 0 || own < 0 || own >= c_.s_kv) {
      compare("index", row, static_cast<double>(own), static_cast<double>(best), 0);
      continue;
    }
    compare("scores of the chosen key", row, scores[own], scores[best], moved[own] + moved[best]);
  }
  return out;
}

Judgement BuiltLayer::judge() const {
  return LayerOracle(*this, Precision::kDouble).judge(LayerOracle(*this, Precision::kInput));
}

}  // namespace qkv::verify
