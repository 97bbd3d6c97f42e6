// Runs the implementations of one problem side by side through Google Benchmark.
#pragma once

#include <benchmark/benchmark.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bench/check.h"
#include "bench/contender.h"
#include "bench/spec.h"

namespace qkv::bench {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// One implementation's figures on one problem, medians over the repetitions.
struct Result {
  Spec spec;
  std::string implementation, label;
  std::string error;     // not empty: it was not timed, and why
  std::string declined;  // not empty: it cannot do the problem, and why
  double seconds = kUnknown;
  double tflops = kUnknown;           // visible pairs only
  double gbytes = kUnknown;           // compulsory bytes per second
  double vs_unfused = kUnknown;       // how many times faster than the unfused baseline
  double ceiling_percent = kUnknown;  // of the machine's own measured ceiling
  std::vector<benchmark::BenchmarkReporter::Run> runs;  // as Google Benchmark reports them
};

// Whether --benchmark_filter lets the implementation's benchmark through.
class Filter {
 public:
  Filter();  // of the flag's value
  bool admits(const std::string& name) const;

 private:
  std::string pattern_;
  bool negative_ = false;
};

// name() for qkv, with "/unfused" etc. for the others.
std::string benchmark_name(const Spec& spec, const std::string& implementation);

// Each candidate that does not decline is made, run once, checked against `reference`, and only
// then timed; repetitions of all are interleaved. `ceiling_tflops` is the machine's; NaN: the tile
// products of this run.
std::vector<Result> run_problem(const Spec& spec, const std::vector<Candidate>& candidates,
                                const Reference& reference, double ceiling_tflops);

}  // namespace qkv::bench
