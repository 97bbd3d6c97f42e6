#include "layer_run.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "errors.h"
#include "host/core/numeric.h"
#include "oracle_check.h"

namespace qkv::cli {
namespace {

template <class T>
LayerResult attend_as(const LayerData& data, qkv_type type) {
  const auto convert = [](std::span<const float> in) {
    std::vector<T> out;
    out.reserve(in.size());
    for (const float x : in) out.push_back(host::from_float<T>(x));
    return out;
  };
  const std::vector<T> q = convert(data.q), k = convert(data.k), v = convert(data.v);
  std::vector<T> o(data.q.size());
  LayerResult result;
  result.weights.resize(static_cast<size_t>(data.heads * data.tokens * data.tokens));

  const int64_t s = data.tokens, d = data.dim;
  const auto tensor = [&](const std::vector<T>& x) {
    return strided(x.data(), type, {1, data.heads, s, d}, {data.heads * s * d, s * d, d, 1});
  };
  const Attention problem{.q = tensor(q),
                          .k = tensor(k),
                          .v = tensor(v),
                          .o = tensor(o),
                          .weights = bhsd(result.weights.data(), 1, data.heads, s, s),
                          .device = Device::kCpu};
  attention(problem);
  for (const T x : o) result.o.push_back(host::to_float(x));
  return result;
}

}  // namespace

LayerResult attend_layer(const LayerData& data, qkv_type type) {
  if (type == QKV_TYPE_F16) return attend_as<host::Half>(data, type);
  if (type == QKV_TYPE_BF16) return attend_as<host::Bfloat>(data, type);
  return attend_as<float>(data, type);
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

void attend_and_check(Attention problem) {
  problem.device = Device::kCpu;
  attention(problem);
  for (const Difference& d : compare_with_oracle(problem.desc()).outputs) {
    if (d.passed()) continue;
    throw Failure(fmt::format("{} is {:.3g} from the oracle; rounding explains {:.3g}", d.output,
                              d.largest, d.allowed));
  }
}

}  // namespace qkv::cli
