#include "bench/check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <tuple>

#include "host/numeric.h"
#include "host/reference/attention.h"

namespace qkv::bench {
namespace {

using host::Problem;
using host::View;

// The same tensor from row i of head h of batch b on, with the extents given.
View part(const View& view, int64_t b, int64_t h, int64_t i, int64_t rows) {
  View out = view;
  const int64_t bytes = view.offset(b, h, i) * host::type_size(view.type);
  out.data = static_cast<std::byte*>(view.data) + bytes;
  out.shape = {1, 1, rows, view.shape[3]};
  return out;
}

// The problem of one query row: its keys are all there, its diagonal is where it was.
Problem row_problem(const Problem& p, int64_t b, int64_t h, int64_t i) {
  Problem row = p;
  const int64_t h_kv = h / (p.heads_q / p.heads_kv);
  row.q = part(p.q, b, h, i, 1);
  row.k = part(p.k, b, h_kv, 0, p.s_kv);
  row.v = part(p.v, b, h_kv, 0, p.s_kv);
  row.o = part(p.o, b, h, i, 1);
  row.batch = row.heads_q = row.heads_kv = row.s_q = 1;
  row.alignment = QKV_ALIGN_EXPLICIT;
  row.explicit_offset = i + p.offset(p.s_kv);
  return row;
}

double load(const View& view, const void* base, int64_t offset) {
  if (view.type == QKV_TYPE_F32) return static_cast<const float*>(base)[offset];
  if (view.type == QKV_TYPE_F16) return to_float(static_cast<const host::Half*>(base)[offset]);
  return to_float(static_cast<const host::Bfloat*>(base)[offset]);
}

float round_to(qkv_type type, float x) {
  if (type == QKV_TYPE_F16) return to_float(host::from_float<host::Half>(x));
  if (type == QKV_TYPE_BF16) return to_float(host::from_float<host::Bfloat>(x));
  return x;
}

// O of a one-row problem by the textbook in fp32, with scores, weights and O in the input type.
std::vector<double> with_rounded_scores(const Problem& p) {
  const host::KeyRange keys = host::visible_keys(p, 0, p.s_kv);
  std::vector<float> weights;
  float largest = -std::numeric_limits<float>::infinity();
  for (int64_t j = keys.begin; j < keys.end; ++j) {
    float dot = 0;
    for (int64_t d = 0; d < p.d_qk; ++d) {
      dot +=
          static_cast<float>(load(p.q, p.q.data, d) * load(p.k, p.k.data, p.k.offset(0, 0, j, d)));
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
      element += weight * static_cast<float>(load(p.v, p.v.data, p.v.offset(0, 0, j, d)));
    }
    o.push_back(round_to(p.type, element));
  }
  return o;
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

// The first element of `o` that is not finite; -1: all are. The inputs are finite, so O is.
int64_t first_not_finite(const View& view, const void* o, int64_t count) {
  int64_t first = count;
#pragma omp parallel for schedule(static) reduction(min : first)
  for (int64_t at = 0; at < count; ++at) {
    if (!std::isfinite(load(view, o, at))) first = std::min(first, at);
  }
  return first == count ? -1 : first;
}

}  // namespace

Reference::Reference(const Problem& problem) : problem_(problem) {
  for (const auto& [b, h, i] : sample(problem)) rows_.push_back({b, h, i, {}, {}, {}});
#pragma omp parallel for schedule(dynamic)
  for (size_t n = 0; n < rows_.size(); ++n) {
    Row& row = rows_[n];
    const Problem one = row_problem(problem_, row.b, row.h, row.i);
    row.exact = reference::attention(one, reference::Precision::kDouble).o;
    row.low_precision = reference::attention(one, reference::Precision::kInput).o;
    row.rounded_scores = with_rounded_scores(one);
  }
  double error = 0, error_rounded_scores = 0, largest = 0;
  for (const Row& row : rows_) {
    for (size_t d = 0; d < row.exact.size(); ++d) {
      const double exact = row.exact[d];
      error = std::max(error, std::abs(row.low_precision[d] - exact));
      error_rounded_scores =
          std::max(error_rounded_scores, std::abs(row.rounded_scores[d] - exact));
      largest = std::max(largest, std::abs(exact));
    }
  }
  const double floor = epsilon(problem.type) * largest;
  tolerance_ = 2 * error + floor;
  tolerance_rounded_scores_ = 2 * error_rounded_scores + floor;
}

std::string Reference::check(const void* o, bool rounded_scores) const {
  const double tolerance = rounded_scores ? tolerance_rounded_scores_ : tolerance_;
  const Problem& p = problem_;
  const int64_t count = p.batch * p.heads_q * p.s_q * p.d_v;
  std::ostringstream wrong;
  if (const int64_t at = first_not_finite(p.o, o, count); at >= 0) {
    wrong << "element " << at << " of O is not finite or was not written";
    return wrong.str();
  }
  for (const Row& row : rows_) {
    const int64_t start = p.o.offset(row.b, row.h, row.i);
    for (size_t d = 0; d < row.exact.size(); ++d) {
      const double got = load(p.o, o, start + static_cast<int64_t>(d));
      const double off = std::abs(got - row.exact[d]);
      if (off <= tolerance) continue;
      wrong << "O[" << row.b << "][" << row.h << "][" << row.i << "][" << d << "] is " << got
            << ", the oracle says " << row.exact[d] << "; off by " << off << ", allowed is "
            << tolerance;
      return wrong.str();
    }
  }
  return {};
}

}  // namespace qkv::bench
