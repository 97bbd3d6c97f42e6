#include "host/ops/attention/estimate.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "host/ops/attention/splits.h"

namespace qkv::host::attention {
namespace {

// Multiply-adds in fp32 a cycle and multiprocessor (CUDA C++ programming guide, throughput of
// instructions).
double fp32_rate(int32_t compute) { return compute <= 80 ? 64 : 128; }

// sm_80's and sm_90's mma.sync of tf32 multiplies 512 times a cycle, and a product in fp32 is three
// of them (kernels/README.md).
double arithmetic_rate(const Kernel& kernel, int32_t compute) {
  return kernel.name == std::string_view("sm80_tf32x3") ? 512.0 / 3 : fp32_rate(compute);
}

// Both products over the tiles of keys that the plan's tiles of queries see.
double multiply_adds(const Problem& p, const TilePlan& tiles) {
  const TileLoads loads = tile_loads(p, schedule_of(p, tiles.tile_q, tiles.tile_kv, 1));
  const double rows = std::min<double>(tiles.tile_q, static_cast<double>(p.s_q));
  const double keys = std::min<double>(tiles.tile_kv, static_cast<double>(p.s_kv));
  double blocks = 0;
  for (size_t n = 0; n < loads.count; ++n)
    blocks += loads.classes[n].tiles * loads.classes[n].steps;
  return blocks * rows * keys * static_cast<double>(p.d_qk + p.d_v);
}

double memory_microseconds(const Problem& p, const KnownDevice& known) {
  const double rows = static_cast<double>(p.batch * p.heads_q * p.s_q);
  const double keys = static_cast<double>(p.batch * p.heads_kv * p.s_kv);
  const double bytes =
      static_cast<double>(type_size(p.type)) * (rows + keys) * static_cast<double>(p.d_qk + p.d_v);
  return bytes / (kMemoryShare * 1e3 * known.memory_gbs);
}

}  // namespace

Estimate estimate(const Problem& p, const Plan& plan, const KnownDevice& known) {
  const auto* cut = dynamic_cast<const SplitPlan*>(plan.own.get());
  if (cut != nullptr && cut->predicted.cycles > 0) {
    const Prediction& predicted = cut->predicted;
    const int32_t mhz = predicted.by_memory ? known.clock_mhz : known.load_mhz;
    return {kStartMicroseconds + predicted.cycles / mhz, false};
  }
  const auto& tiles = dynamic_cast<const TilePlan&>(*plan.own);
  const double rate = arithmetic_rate(*plan.kernel, known.compute) * known.sm_count;
  const double computing = multiply_adds(p, tiles) / (rate * known.clock_mhz);
  return {kStartMicroseconds + std::max(computing, memory_microseconds(p, known)), true};
}

std::string duration_text(double microseconds) {
  char out[32];
  const double ms = microseconds / 1000;
  if (microseconds < 1000)
    std::snprintf(out, sizeof out, "%.*f us", microseconds < 100 ? 1 : 0, microseconds);
  else
    std::snprintf(out, sizeof out, "%.*f ms", ms < 10 ? 2 : ms < 100 ? 1 : 0, ms);
  return out;
}

std::string estimate_text(const Problem& p, const Plan& plan, const KnownDevice& known) {
  const Estimate of = estimate(p, plan, known);
  std::string out =
      text_line("estimate", of.at_least ? "at least " : "", duration_text(of.microseconds), " on ",
                known.name, ", cold caches and the start included");
  if (of.at_least)
    return out + text_line("", "nothing was run; ", plan.kernel->name,
                           " has no model, this is the least that arithmetic and memory take");
  char range[96];
  std::snprintf(range, sizeof range, "%.2f to %.2f times the estimate", kLeastOfEstimate,
                kMostOfEstimate);
  return out +
         text_line("", "nothing was run; on an H100 measured problems took ", range,
                   known.key == std::string_view("h100") ? "" : ", this device was not measured");
}

}  // namespace qkv::host::attention
