// Runs the implementations of one problem side by side through Google Benchmark.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bench/contender.h"
#include "bench/spec.h"

namespace qkv::bench {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// What is measured, whatever its operation: how it is named and filed.
struct Subject {
  std::string name;
  std::string columns;  // of the TSV, from the device to skv, tabs between
  std::string options;  // of its last column
  double bytes = 0;     // that any implementation has to move
};
Subject subject_of(const Spec& spec);

// What is wrong with the outputs of the last run; empty: nothing. `rounds_scores` as Contender has
// it.
using Check = std::function<std::string(bool rounds_scores)>;

// One implementation's figures on one problem, medians over the repetitions.
struct Result {
  Subject subject;
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

// The subject's name for qkv, with "/unfused" etc. for the others.
std::string benchmark_name(const Subject& subject, const std::string& implementation);

// Each candidate that does not decline is made, run once, checked, and only then
// timed; repetitions of all are interleaved. `ceiling_tflops` is the machine's; NaN: the tile
// products of this run.
std::vector<Result> run_problem(const Subject& subject, const std::vector<Candidate>& candidates,
                                const Check& check, double ceiling_tflops);

// The same problem's results of another pass: its repetitions become later ones of `results`, whose
// figures are those of all.
void join_pass(std::vector<Result> pass, double ceiling_tflops, std::vector<Result>* results);

}  // namespace qkv::bench
