#include "oracle_check.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>

#include "errors.h"
#include "host/core/device.h"
#include "host/core/numeric.h"
#include "host/ops/attention/problem.h"
#include "host/ops/attention/reference/attention.h"
#include "host/ops/attention/reference/selected.h"
#include "qkv/qkv.hpp"

namespace qkv::cli {
namespace {

double load(const host::View& view, int64_t b, int64_t h, int64_t i, int64_t d) {
  switch (view.type) {
    case QKV_TYPE_F16:
      return host::to_float(*view.at<host::Half>(b, h, i, d));
    case QKV_TYPE_BF16:
      return host::to_float(*view.at<host::Bfloat>(b, h, i, d));
    case QKV_TYPE_I32:
      return *view.at<int32_t>(b, h, i, d);
    case QKV_TYPE_I64:
      return static_cast<double>(*view.at<int64_t>(b, h, i, d));
    default:
      return *view.at<float>(b, h, i, d);
  }
}

// What two correct orders of summation may differ by, relative to the largest element.
double floor_of(qkv_type type) {
  return type == QKV_TYPE_F16 ? 0x1p-10 : type == QKV_TYPE_BF16 ? 0x1p-7 : 0x1p-21;
}

bool same_nonfinite(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// `exact` and `textbook` are dense in the order of the view.
Difference compare(const char* name, const host::View& view, std::span<const double> exact,
                   std::span<const double> textbook, const std::vector<bool>& skip_row) {
  Difference out;
  out.output = name;
  double largest_value = 0, textbook_error = 0;
  size_t at = 0, row = 0;
  for (int64_t b = 0; b < view.shape[0]; ++b) {
    for (int64_t h = 0; h < view.shape[1]; ++h) {
      for (int64_t i = 0; i < view.shape[2]; ++i, ++row) {
        for (int64_t d = 0; d < view.shape[3]; ++d, ++at) {
          if (skip_row[row]) continue;
          const double want = exact[at], got = load(view, b, h, i, d);
          if (!std::isfinite(want) || !std::isfinite(got)) {
            out.nonfinite += same_nonfinite(want, got) ? 0 : 1;
            continue;
          }
          out.largest = std::max(out.largest, std::abs(got - want));
          largest_value = std::max(largest_value, std::abs(want));
          const double error = std::abs(textbook[at] - want);
          if (std::isfinite(error)) textbook_error = std::max(textbook_error, error);
        }
      }
    }
  }
  out.allowed = 2 * textbook_error + floor_of(view.type) * largest_value;
  return out;
}

std::vector<int64_t> dense(const host::View& index) {
  std::vector<int64_t> out;
  for (int64_t b = 0; b < index.shape[0]; ++b)
    for (int64_t h = 0; h < index.shape[1]; ++h)
      for (int64_t i = 0; i < index.shape[2]; ++i)
        for (int64_t n = 0; n < index.shape[3]; ++n)
          out.push_back(static_cast<int64_t>(load(index, b, h, i, n)));
  return out;
}

// Rows whose own index is not the oracle's.
std::vector<bool> other_choices(const host::View& index, const std::vector<int64_t>& want) {
  const std::vector<int64_t> own = dense(index);
  const auto columns = static_cast<size_t>(index.shape[3]);
  std::vector<bool> other(own.size() / columns);
  for (size_t at = 0; at < own.size(); ++at)
    if (own[at] != want[at]) other[at / columns] = true;
  return other;
}

// Top-k selection: the scores of the chosen keys against the best ones, which another choice has
// only if it was as good, and the outputs over the keys that were chosen.
void compare_top(const host::attention::Problem& problem, const reference::Result& exact,
                 const reference::Result& textbook, const std::vector<bool>& none,
                 OracleReport* report) {
  std::vector<int64_t> chosen = exact.top;
  if (problem.index.present()) {
    chosen = dense(problem.index);
    const std::vector<bool> other = other_choices(problem.index, exact.top);
    report->other_choices = std::count(other.begin(), other.end(), true);
  }
  const reference::OverSelected soft(problem, chosen);
  const reference::Result want = reference::attention(soft.problem);
  const reference::Result by_hand =
      reference::attention(soft.problem, reference::Precision::kInput);
  report->outputs.push_back(compare("o", problem.o, want.o, by_hand.o, none));
  if (problem.lse.present())
    report->outputs.push_back(compare("lse", problem.lse, want.lse, by_hand.lse, none));
  if (problem.top_scores.present())
    report->outputs.push_back(
        compare("top-scores", problem.top_scores, exact.top_scores, textbook.top_scores, none));
  if (!problem.weights.present()) return;
  const bool chooses = problem.weights_mode == QKV_WEIGHTS_PROBABILITIES;
  report->outputs.push_back(compare("weights", problem.weights,
                                    chooses ? want.weights : exact.weights,
                                    chooses ? by_hand.weights : textbook.weights, none));
}

}  // namespace

bool OracleReport::passed() const {
  return std::all_of(outputs.begin(), outputs.end(), std::mem_fn(&Difference::passed));
}

OracleReport compare_with_oracle(qkv_attention_desc desc) {
  desc.device = QKV_DEVICE_CPU;
  host::attention::Problem problem;
  const host::Status status =
      host::attention::validate(&desc, host::Need::kAddresses, host::cuda_runtime(), &problem);
  if (!status.ok()) throw Error(status.code(), status.reason());

  const reference::Result exact = reference::attention(problem);
  const reference::Result textbook = reference::attention(problem, reference::Precision::kInput);
  OracleReport report;
  const std::vector<bool> none(exact.lse.size(), false);
  if (problem.selection == QKV_SELECT_TOP_K) {
    compare_top(problem, exact, textbook, none, &report);
    return report;
  }
  std::vector<bool> skip = none;
  if (problem.index.present()) {
    skip = other_choices(problem.index, exact.index);
    report.other_choices = std::count(skip.begin(), skip.end(), true);
  }
  report.outputs.push_back(compare("o", problem.o, exact.o, textbook.o, skip));
  // Under hard selection this is the best score: another choice passes only if it was as good.
  if (problem.lse.present()) {
    report.outputs.push_back(compare("lse", problem.lse, exact.lse, textbook.lse, none));
  }
  if (problem.weights.present()) {
    const bool chosen = problem.weights_mode == QKV_WEIGHTS_PROBABILITIES;
    report.outputs.push_back(
        compare("weights", problem.weights, exact.weights, textbook.weights, chosen ? skip : none));
  }
  return report;
}

}  // namespace qkv::cli
