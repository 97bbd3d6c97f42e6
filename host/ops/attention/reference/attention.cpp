#include "host/ops/attention/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "host/core/numeric.h"

namespace qkv::reference {
namespace {

using host::View;
using host::attention::Problem;

constexpr double kInf = std::numeric_limits<double>::infinity();

double load(const View& view, int64_t b, int64_t h, int64_t i, int64_t d) {
  switch (view.type) {
    case QKV_TYPE_F32:
      return *view.at<float>(b, h, i, d);
    case QKV_TYPE_F16:
      return host::to_float(*view.at<host::Half>(b, h, i, d));
    case QKV_TYPE_BF16:
      return host::to_float(*view.at<host::Bfloat>(b, h, i, d));
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

int64_t length_of(const Problem& p, int64_t b) {
  return std::clamp<int64_t>(p.length(b), 0, p.s_kv);
}

// Real is double for the oracle, float for the textbook algorithm in the kernels' precision.
template <class Real>
using Rows = std::vector<std::vector<Real>>;

// K and V of one batch and head, without the keys past its length: those are not read at all,
// unless a weights output has their scores.
template <class Real>
struct Keys {
  Keys(const Problem& p, int64_t b, int64_t h)
      : length(length_of(p, b)),
        scored(p.scores_all_keys() ? p.s_kv : length),
        k(static_cast<size_t>(p.d_qk), std::vector<Real>(static_cast<size_t>(scored))),
        v(static_cast<size_t>(length), std::vector<Real>(static_cast<size_t>(p.d_v))) {
    for (int64_t j = 0; j < scored; ++j) {
      for (size_t d = 0; d < k.size(); ++d)
        k[d][static_cast<size_t>(j)] =
            static_cast<Real>(load(p.k, b, h, j, static_cast<int64_t>(d)));
    }
    for (int64_t j = 0; j < length; ++j) {
      const auto at = static_cast<size_t>(j);
      for (size_t d = 0; d < v[at].size(); ++d)
        v[at][d] = static_cast<Real>(load(p.v, b, h, j, static_cast<int64_t>(d)));
    }
  }

  int64_t length, scored;
  Rows<Real> k;  // [d_qk][scored]: scores of neighbouring keys are summed side by side
  Rows<Real> v;  // [length][d_v]
};

template <class Real>
class Row {
 public:
  Row(const Problem& p, const Keys<Real>& keys, int64_t b, int64_t h, int64_t i)
      : p_(p), keys_(keys), b_(b), h_(h), i_(i) {
    offset_ = p.alignment == QKV_ALIGN_BOTTOM_RIGHT ? keys.length - p.s_q : p.explicit_offset;
  }

  bool visible(int64_t j) const {
    return j >= i_ + offset_ - p_.left && j <= i_ + offset_ + p_.right &&
           (!p_.mask.present() || load(p_.mask, b_, h_, i_, j) != 0);
  }

  // Of all keys.
  std::vector<Real> scaled_scores() const {
    std::vector<Real> s(static_cast<size_t>(keys_.scored), 0);
    for (int64_t d = 0; d < p_.d_qk; ++d) {
      const auto q = static_cast<Real>(load(p_.q, b_, h_, i_, d));
      const std::vector<Real>& k = keys_.k[static_cast<size_t>(d)];
      if (p_.score == QKV_SCORE_DOT) {
        for (size_t j = 0; j < s.size(); ++j) s[j] += q * k[j];
      } else {
        const auto w = static_cast<Real>(load(p_.additive_weight, 0, h_, 0, d));
        for (size_t j = 0; j < s.size(); ++j) s[j] += w * std::tanh(q + k[j]);
      }
    }
    for (Real& x : s) x *= static_cast<Real>(p_.scale);
    return s;
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

 private:
  const Problem& p_;
  const Keys<Real>& keys_;
  int64_t b_, h_, i_;
  int64_t offset_;
};

// The keys that top-k selection takes, in order: NaN beats every number, the lowest j wins ties,
// -inf never counts.
template <class Real>
std::vector<size_t> best_keys(const std::vector<Real>& s, int64_t most) {
  std::vector<size_t> keys;
  for (size_t j = 0; j < s.size(); ++j)
    if (s[j] != static_cast<Real>(-kInf)) keys.push_back(j);
  const auto count = std::min(static_cast<std::ptrdiff_t>(most), std::ssize(keys));
  std::partial_sort(keys.begin(), keys.begin() + count, keys.end(), [&](size_t a, size_t b) {
    if (std::isnan(s[a]) != std::isnan(s[b])) return std::isnan(s[a]);
    return s[a] > s[b] || (!(s[b] > s[a]) && a < b);
  });
  keys.resize(static_cast<size_t>(count));
  return keys;
}

template <class Real>
void attend_row(const Problem& p, const Keys<Real>& keys, int64_t b, int64_t h, int64_t i,
                Precision precision, Result* result) {
  const Row<Real> row(p, keys, b, h, i);
  const auto n = static_cast<size_t>(keys.length);
  const auto out = static_cast<size_t>((b * p.heads_q + h) * p.s_q + i);
  double* weights = result->weights.data() + out * static_cast<size_t>(p.s_kv);

  // Scores. A hidden key scores -inf.
  const std::vector<Real> scaled = row.scaled_scores();
  std::vector<Real> s(n, static_cast<Real>(-kInf));
  std::vector<char> visible(n);
  for (int64_t j = 0; j < p.s_kv; ++j) {
    const auto at = static_cast<size_t>(j);
    weights[at] = p.weights_mode == QKV_WEIGHTS_PROBABILITIES ? 0 : -kInf;
    if (at >= scaled.size()) continue;
    const Real capped = row.softcapped(scaled[at]);
    if (p.weights_mode == QKV_WEIGHTS_SCORES) weights[at] = static_cast<double>(scaled[at]);
    if (p.weights_mode == QKV_WEIGHTS_SOFTCAPPED) weights[at] = static_cast<double>(capped);
    if (at >= n) continue;
    visible[at] = row.visible(j);
    if (visible[at]) s[at] = row.biased(capped, j);
    if (p.weights_mode == QKV_WEIGHTS_MASKED) weights[at] = static_cast<double>(s[at]);
  }

  // The best key: NaN beats every number, the lowest j wins ties, -inf never wins.
  int64_t best = -1;
  for (size_t j = 0; j < n; ++j) {
    const Real m = best < 0 ? static_cast<Real>(-kInf) : s[static_cast<size_t>(best)];
    if (s[j] > m || (std::isnan(s[j]) && !std::isnan(m))) best = static_cast<int64_t>(j);
  }
  result->index[out] = best;
  if (best < 0) {
    result->lse[out] = -kInf;
    return;  // O and the probabilities are 0 already
  }
  const Real m = s[static_cast<size_t>(best)];

  // The keys that count: those that have a weight to give.
  std::vector<char> counts(n);
  if (p.selection == QKV_SELECT_SOFT) counts = visible;
  if (p.selection == QKV_SELECT_HARD) counts[static_cast<size_t>(best)] = 1;
  if (p.selection == QKV_SELECT_TOP_K) {
    size_t at = out * static_cast<size_t>(p.top_k);
    for (const size_t j : best_keys(s, p.top_k)) {
      counts[j] = 1;
      result->top[at] = static_cast<int64_t>(j);
      result->top_scores[at++] = static_cast<double>(s[j]);
    }
  }

  // Probabilities.
  const bool hard = p.selection == QKV_SELECT_HARD;
  std::vector<Real> prob(n, 0);
  Real l = 0;
  for (size_t j = 0; j < n; ++j) {
    if (counts[j]) prob[j] = hard ? Real{1} : std::exp(s[j] - m);
    l += prob[j];
  }
  result->lse[out] = static_cast<double>(hard ? m : m + std::log(l));
  if (p.weights_mode == QKV_WEIGHTS_PROBABILITIES) {
    for (size_t j = 0; j < n; ++j) {  // the others stay at 0, whatever l is
      if (counts[j]) weights[j] = static_cast<double>(prob[j] / l);
    }
  }

  // O = P V: the values of keys that do not count do not matter, whatever they are.
  std::vector<Real> sum(static_cast<size_t>(p.d_v), 0);
  for (size_t j = 0; j < n; ++j) {
    if (!counts[j]) continue;
    Real weight = prob[j];
    if (precision == Precision::kInput) {
      const double carry = p.type == QKV_TYPE_F16 ? 0x1p15 : 1;  // P is rounded carried up
      weight = static_cast<Real>(round_to(p.type, static_cast<double>(weight) * carry) / carry);
    }
    for (size_t d = 0; d < sum.size(); ++d) sum[d] += weight * keys.v[j][d];
  }
  for (size_t d = 0; d < sum.size(); ++d) {
    double o = static_cast<double>(sum[d] / l);
    if (precision == Precision::kInput) o = round_to(p.type, o);
    result->o[out * sum.size() + d] = o;
  }
}

template <class Real>
void attend(const Problem& p, Precision precision, Result* result) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h_kv = 0; h_kv < p.heads_kv; ++h_kv) {
      const Keys<Real> keys(p, b, h_kv);
      const int64_t group = p.heads_q / p.heads_kv;
      for (int64_t h = h_kv * group; h < (h_kv + 1) * group; ++h)
        for (int64_t i = 0; i < p.s_q; ++i) attend_row(p, keys, b, h, i, precision, result);
    }
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
  if (p.selection == QKV_SELECT_TOP_K) {
    result.top.assign(rows * static_cast<size_t>(p.top_k), -1);
    result.top_scores.assign(result.top.size(), -kInf);
  }
  if (precision == Precision::kDouble) {
    attend<double>(p, precision, &result);
  } else {
    attend<float>(p, precision, &result);
  }
  return result;
}

}  // namespace qkv::reference
