#include "host/reference/attention.h"

#include <cmath>
#include <cstddef>
#include <limits>

#include "host/numeric.h"

namespace qkv::reference {
namespace {

using host::Problem;
using host::View;

constexpr double kInf = std::numeric_limits<double>::infinity();

double load(const View& view, int64_t b, int64_t h, int64_t i, int64_t d) {
  switch (view.type) {
    case QKV_TYPE_F32:
      return *view.at<float>(b, h, i, d);
    case QKV_TYPE_F16:
      return host::to_float(*view.at<host::Half>(b, h, i, d));
    case QKV_TYPE_BF16:
      return host::to_float(*view.at<host::Bfloat>(b, h, i, d));
    case QKV_TYPE_I32:
      return *view.at<int32_t>(b, h, i, d);
    case QKV_TYPE_BOOL:
      return *view.at<uint8_t>(b, h, i, d);
    default:
      return std::numeric_limits<double>::quiet_NaN();
  }
}

double round_to(qkv_type type, double x) {
  const auto f = static_cast<float>(x);
  if (type == QKV_TYPE_F16) return host::to_float(host::from_float<host::Half>(f));
  if (type == QKV_TYPE_BF16) return host::to_float(host::from_float<host::Bfloat>(f));
  return f;
}

// Real is double for the oracle, float for the textbook algorithm in the kernels' precision.
template <class Real>
class Row {
 public:
  Row(const Problem& p, int64_t b, int64_t h, int64_t i)
      : p_(p), b_(b), h_(h), h_kv_(h / (p.heads_q / p.heads_kv)), i_(i) {
    length_ =
        p.kv_lengths.present() ? static_cast<int64_t>(load(p.kv_lengths, b, 0, 0, 0)) : p.s_kv;
    offset_ = p.alignment == QKV_ALIGN_BOTTOM_RIGHT ? length_ - p.s_q : p.explicit_offset;
  }

  bool in_length(int64_t j) const { return j < length_; }

  bool visible(int64_t j) const {
    return in_length(j) && j >= i_ + offset_ - p_.left && j <= i_ + offset_ + p_.right &&
           (!p_.mask.present() || load(p_.mask, b_, h_, i_, j) != 0);
  }

  Real scaled_score(int64_t j) const {
    Real sum = 0;
    for (int64_t d = 0; d < p_.d_qk; ++d) {
      const auto q = static_cast<Real>(load(p_.q, b_, h_, i_, d));
      const auto k = static_cast<Real>(load(p_.k, b_, h_kv_, j, d));
      if (p_.score == QKV_SCORE_DOT) {
        sum += q * k;
      } else {
        sum += static_cast<Real>(load(p_.additive_weight, 0, h_, 0, d)) * std::tanh(q + k);
      }
    }
    return static_cast<Real>(p_.scale) * sum;
  }

  Real softcapped(Real s) const {
    const auto c = static_cast<Real>(p_.softcap);
    return c > 0 ? c * std::tanh(s / c) : s;
  }

  Real biased(Real s, int64_t j) const {
    if (p_.bias.present()) s += static_cast<Real>(load(p_.bias, b_, h_, i_, j));
    if (p_.alibi_slopes.present()) {
      const auto distance = static_cast<Real>(std::llabs(i_ + offset_ - j));
      s -= static_cast<Real>(load(p_.alibi_slopes, b_, h_, 0, 0)) * distance;
    }
    return s;
  }

  Real value(int64_t j, int64_t d) const { return static_cast<Real>(load(p_.v, b_, h_kv_, j, d)); }

 private:
  const Problem& p_;
  int64_t b_, h_, h_kv_, i_;
  int64_t length_, offset_;
};

template <class Real>
void attend_row(const Problem& p, int64_t b, int64_t h, int64_t i, Precision precision,
                Result* result) {
  const Row<Real> row(p, b, h, i);
  const auto n = static_cast<size_t>(p.s_kv);
  const auto out = static_cast<size_t>((b * p.heads_q + h) * p.s_q + i);
  double* weights = result->weights.data() + out * n;

  // Scores. A hidden key scores -inf; a key past the length is not read at all.
  std::vector<Real> s(n, static_cast<Real>(-kInf));
  for (int64_t j = 0; j < p.s_kv; ++j) {
    const auto at = static_cast<size_t>(j);
    weights[at] = p.weights_mode == QKV_WEIGHTS_PROBABILITIES ? 0 : -kInf;
    if (!row.in_length(j)) continue;
    const Real scaled = row.scaled_score(j);
    const Real capped = row.softcapped(scaled);
    if (row.visible(j)) s[at] = row.biased(capped, j);
    if (p.weights_mode == QKV_WEIGHTS_SCORES) weights[at] = static_cast<double>(scaled);
    if (p.weights_mode == QKV_WEIGHTS_SOFTCAPPED) weights[at] = static_cast<double>(capped);
    if (p.weights_mode == QKV_WEIGHTS_MASKED) weights[at] = static_cast<double>(s[at]);
  }

  // The best key: NaN beats every number, the lowest j wins ties, -inf never wins.
  int64_t best = -1;
  for (int64_t j = 0; j < p.s_kv; ++j) {
    const Real x = s[static_cast<size_t>(j)];
    const Real m = best < 0 ? static_cast<Real>(-kInf) : s[static_cast<size_t>(best)];
    if (x > m || (std::isnan(x) && !std::isnan(m))) best = j;
  }
  result->index[out] = best;
  if (best < 0) {
    result->lse[out] = -kInf;
    return;  // O and the probabilities are 0 already
  }
  const Real m = s[static_cast<size_t>(best)];

  // Probabilities.
  std::vector<Real> prob(n, 0);
  Real l = 0;
  for (size_t j = 0; j < n; ++j) {
    if (p.selection == QKV_SELECT_HARD) {
      prob[j] = static_cast<int64_t>(j) == best ? Real{1} : Real{0};
    } else {
      prob[j] = row.visible(static_cast<int64_t>(j)) ? std::exp(s[j] - m) : Real{0};
      l += prob[j];
    }
  }
  if (p.selection == QKV_SELECT_HARD) l = 1;
  result->lse[out] = static_cast<double>(p.selection == QKV_SELECT_HARD ? m : m + std::log(l));
  if (p.weights_mode == QKV_WEIGHTS_PROBABILITIES) {
    for (size_t j = 0; j < n; ++j) {  // hidden keys stay at 0, whatever l is
      if (row.visible(static_cast<int64_t>(j))) weights[j] = static_cast<double>(prob[j] / l);
    }
  }

  // O = P V over the keys that have a weight to give: hidden keys and, under hard selection, the
  // others are not read.
  for (int64_t d = 0; d < p.d_v; ++d) {
    Real sum = 0;
    for (int64_t j = 0; j < p.s_kv; ++j) {
      const bool counts = p.selection == QKV_SELECT_HARD ? j == best : row.visible(j);
      if (!counts) continue;
      Real weight = prob[static_cast<size_t>(j)];
      if (precision == Precision::kInput) {
        weight = static_cast<Real>(round_to(p.type, static_cast<double>(weight)));
      }
      sum += weight * row.value(j, d);
    }
    double o = static_cast<double>(sum / l);
    if (precision == Precision::kInput) o = round_to(p.type, o);
    result->o[out * static_cast<size_t>(p.d_v) + static_cast<size_t>(d)] = o;
  }
}

}  // namespace

Result attention(const Problem& p, Precision precision) {
  const auto rows = static_cast<size_t>(p.batch * p.heads_q * p.s_q);
  Result result;
  result.o.assign(rows * static_cast<size_t>(p.d_v), 0.0);
  result.lse.assign(rows, 0.0);
  result.index.assign(rows, -1);
  result.weights.assign(rows * static_cast<size_t>(p.s_kv), 0.0);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads_q; ++h) {
      for (int64_t i = 0; i < p.s_q; ++i) {
        if (precision == Precision::kDouble) {
          attend_row<double>(p, b, h, i, precision, &result);
        } else {
          attend_row<float>(p, b, h, i, precision, &result);
        }
      }
    }
  }
  return result;
}

}  // namespace qkv::reference
