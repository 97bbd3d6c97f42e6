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

// Rows whose own index is not the oracle's.
std::vector<bool> other_choices(const host::View& index, const std::vector<int64_t>& want) {
  std::vector<bool> other;
  for (int64_t b = 0; b < index.shape[0]; ++b) {
    for (int64_t h = 0; h < index.shape[1]; ++h) {
      for (int64_t i = 0; i < index.shape[2]; ++i) {
        other.push_back(load(index, b, h, i, 0) != static_cast<double>(want[other.size()]));
      }
    }
  }
  return other;
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
