#include "layer_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "errors.h"
#include "host/core/numeric.h"
#include "oracle_check.h"
#include "terminal.h"

namespace qkv::cli {
namespace {

template <class T>
LayerResult attend_as(const LayerData& data, qkv_type type, const Place& place, bool weights) {
  const auto convert = [](std::span<const float> in) {
    std::vector<T> out;
    out.reserve(in.size());
    for (const float x : in) out.push_back(host::from_float<T>(x));
    return out;
  };
  const std::vector<T> q = convert(data.q), k = convert(data.k), v = convert(data.v);
  std::vector<T> o(data.q.size());
  LayerResult result;

  const int64_t s = data.tokens, d = data.dim;
  const auto tensor = [&](const std::vector<T>& x) {
    return strided(x.data(), type, {1, data.heads, s, d}, {data.heads * s * d, s * d, d, 1});
  };
  Attention problem{.q = tensor(q), .k = tensor(k), .v = tensor(v), .o = tensor(o)};
  if (weights) {
    result.weights.resize(static_cast<size_t>(data.heads * s * s));
    problem.weights = bhsd(result.weights.data(), 1, data.heads, s, s);
  }
  result.kernel = run_once(problem.desc(), place.device).kernel;
  for (const T x : o) result.o.push_back(host::to_float(x));
  return result;
}

void add_once(std::vector<std::string>* names, const std::string& name) {
  if (std::find(names->begin(), names->end(), name) == names->end()) names->push_back(name);
}

}  // namespace

LayerResult attend_layer(const LayerData& data, qkv_type type, const Place& place, bool weights) {
  if (type == QKV_TYPE_F16) return attend_as<host::Half>(data, type, place, weights);
  if (type == QKV_TYPE_BF16) return attend_as<host::Bfloat>(data, type, place, weights);
  return attend_as<float>(data, type, place, weights);
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  double largest = a.size() == b.size() ? 0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = difference;
    if (std::isnan(largest)) return std::numeric_limits<double>::infinity();
  }
  return largest;
}

Comparison::Comparison(std::vector<Place> places) {
  for (Place& place : places) seen_.push_back({std::move(place), 0, {}});
}

void Comparison::attend(const Attention& problem, const std::function<void()>& check) {
  const qkv_attention_desc desc = problem.desc();
  for (Seen& seen : seen_) {
    add_once(&seen.kernels, run_once(desc, seen.place.device).kernel);
    for (const Difference& d : compare_with_oracle(desc).outputs) {
      if (!d.passed()) {
        throw Failure(fmt::format("{}: {} is {:.3g} from the oracle; rounding explains {:.3g}",
                                  seen.place.name, d.output, d.largest, d.allowed));
      }
      seen.largest = std::max(seen.largest, d.largest);
    }
    check();
  }
}

std::string Comparison::text() const {
  if (seen_.size() < 2) return "";
  std::string out = "Largest difference from fp64:";
  for (const Seen& seen : seen_) {
    out += fmt::format("{} {} {:.1e} ({})", &seen == &seen_.front() ? "" : ",", seen.place.name,
                       seen.largest, fmt::join(seen.kernels, ", "));
  }
  return "\n" + wrap(out + ".");
}

}  // namespace qkv::cli
