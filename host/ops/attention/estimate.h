// How long a plan may take on a device by name. An estimate, from the wave model where the kernel
// has one: nothing was run.
#pragma once

#include <string>

#include "host/core/known_devices.h"
#include "host/core/plan.h"
#include "host/ops/attention/problem.h"

namespace qkv::host::attention {

struct Estimate {
  double microseconds = 0;
  // The kernel has no model: so long its arithmetic takes at the pipes' full rate, or memory, or
  // the start of a kernel.
  bool at_least = false;
};

// Of a call with cold caches between two CUDA events; fitted to the decode rows of
// bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-variants.json.
inline constexpr double kStartMicroseconds = 10;

// What the same file's problems took there, over their estimates (plan_table_test holds the
// measured ones to it). No other card has been measured.
inline constexpr double kLeastOfEstimate = 0.75, kMostOfEstimate = 1.35;

// `plan` is one for device_info_of(known).
Estimate estimate(const Problem& problem, const Plan& plan, const KnownDevice& known);

// "112.5 us".
std::string duration_text(double microseconds);

// For people: the time, what share of the slots works, and how far to trust it.
std::string estimate_text(const Problem& problem, const Plan& plan, const KnownDevice& known);

}  // namespace qkv::host::attention
