// attention_experiments: kernels that somebody expects to be faster, each beside the shipped one on
// the same tensors, both checked before they are timed; predicted and measured side by side.
// README.md has the rules.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "bench/check.h"
#include "bench/cuda_bench.h"
#include "bench/machine.h"
#include "bench/runner.h"
#include "bench/spec.h"
#include "bench/tensors.h"
#include "host/core/op.h"
#include "host/ops/attention/op.h"

// The changed kernels.
namespace qkv::bench::experiments {
#define QKV_EXPERIMENT(name, kernel, why, predict) extern const host::Kernel name;
#include "bench/experiments.inc"
#undef QKV_EXPERIMENT
}  // namespace qkv::bench::experiments

namespace qkv::bench {
namespace {

struct Experiment {
  const char* name;
  const host::Kernel* changed;
  const char* kernel;  // the shipped one
  const char* why;
  const char* predict;  // lines of a change in percent and a problem
};

#define QKV_EXPERIMENT(name, kernel, why, predict) \
  {#name, &experiments::name, kernel, why, predict},
constexpr Experiment kExperiments[] = {
#include "bench/experiments.inc"
};
#undef QKV_EXPERIMENT

struct Prediction {
  double percent;
  std::string problem;
};

std::vector<Prediction> predictions(const Experiment& experiment) {
  std::vector<Prediction> out;
  std::istringstream lines(experiment.predict);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    Prediction p;
    if (!(words >> p.percent >> p.problem))
      throw std::invalid_argument(
          fmt::format("{}: 'predict: {}' is no number and a problem", experiment.name, line));
    out.push_back(p);
  }
  return out;
}

const host::Kernel& shipped(const std::string& name) {
  for (const host::Kernel* kernel : host::attention::kOp.kernels)
    if (kernel->name == name) return *kernel;
  throw std::invalid_argument("no kernel is called " + name);
}

struct Outcome {
  double shipped = kUnknown, changed = kUnknown;  // TFLOP/s
  std::string fault;                              // not empty: it was not timed, and why
  double percent() const { return 100 * (changed / shipped - 1); }
};

Outcome measure(CudaBench* cuda, const Experiment& experiment, const Spec& spec) {
  const auto tensors = std::make_shared<const Tensors>(spec);
  const Reference reference(tensors->problem());
  const std::vector<Candidate> candidates = {
      cuda->candidate("shipped", shipped(experiment.kernel), spec, tensors),
      cuda->candidate(experiment.name, *experiment.changed, spec, tensors)};
  const auto results = run_problem(
      subject_of(spec), candidates,
      [&](bool rounds_scores) { return reference.check(rounds_scores); }, kUnknown);
  Outcome out;
  for (const Result& r : results) {
    const std::string why = r.declined.empty() ? r.error : r.declined;
    if (!why.empty() && out.fault.empty()) out.fault = r.implementation + ": " + why;
  }
  out.shipped = results[0].tflops;
  out.changed = results[1].tflops;
  return out;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out + "\"";
}

// A line for each problem, written when it is measured.
void record(const std::string& path, const Experiment& experiment, const Prediction& predicted,
            const Outcome& outcome) {
  if (path.empty()) return;
  std::ofstream file(path, std::ios::app);
  file << "{\"experiment\": " << quoted(experiment.name)
       << ", \"problem\": " << quoted(predicted.problem)
       << fmt::format(", \"predicted_percent\": {}", predicted.percent);
  if (outcome.fault.empty())
    file << fmt::format(
        ", \"measured_percent\": {:.2f}, \"shipped_tflops\": {:.1f}, \"changed_tflops\": "
        "{:.1f}}}\n",
        outcome.percent(), outcome.shipped, outcome.changed);
  else
    file << ", \"fault\": " << quoted(outcome.fault) << "}\n";
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

// The number of problems that could not be timed.
int run(const std::vector<std::string>& only, const std::string& json) {
  CudaBench cuda;
  const auto wanted = [&](const Experiment& experiment) {
    return only.empty() || std::find(only.begin(), only.end(), experiment.name) != only.end();
  };
  fmt::print("{:<28}{:>9} {:>9} {:>10} {:>10}  problem\n", "experiment", "shipped", "changed",
             "predicted", "measured");
  int faults = 0;
  for (const Experiment& experiment : kExperiments) {
    if (!wanted(experiment)) continue;
    for (const Prediction& predicted : predictions(experiment)) {
      Spec spec = parse(predicted.problem);
      const Outcome outcome = measure(&cuda, experiment, spec);
      record(json, experiment, predicted, outcome);
      if (outcome.fault.empty()) {
        fmt::print("{:<28}{:>9.1f} {:>9.1f} {:>+9.1f}% {:>+9.1f}%  {}\n", experiment.name,
                   outcome.shipped, outcome.changed, predicted.percent, outcome.percent(),
                   predicted.problem);
      } else {
        ++faults;
        fmt::print("{:<28}not timed: {}  {}\n", experiment.name, outcome.fault, predicted.problem);
      }
      std::fflush(stdout);
    }
  }
  return faults;
}

void list() {
  for (const Experiment& experiment : kExperiments) {
    fmt::print("{}  ({})\n  {}\n", experiment.name, experiment.kernel, experiment.why);
    for (const Prediction& p : predictions(experiment))
      fmt::print("  {:+.1f}%  {}\n", p.percent, p.problem);
  }
}

int start(int argc, char** argv) {
  std::vector<std::string> only;
  std::string json, min_time = "0.1", repetitions = "7";
  bool lists = false;
  CLI::App app{"Times kernels that are changed for an experiment beside the shipped ones."};
  std::vector<std::string> names;
  for (const Experiment& experiment : kExperiments) names.emplace_back(experiment.name);
  app.add_flag("--list", lists, "the experiments, why, and what they predict");
  app.add_option("--only", only, "these alone")->check(CLI::IsMember(names));
  app.add_option("--json", json, "append a line of JSON for each problem");
  app.add_option("--min-time", min_time, "seconds of a repetition; default: 0.1");
  app.add_option("--repetitions", repetitions, "medians of so many; default: 7");
  CLI11_PARSE(app, argc, argv);
  if (lists) {
    list();
    return 0;
  }
  std::vector<std::string> flags = {argv[0], "--benchmark_repetitions=" + repetitions,
                                    "--benchmark_min_time=" + min_time,
                                    "--benchmark_enable_random_interleaving=true"};
  std::vector<char*> pointers;
  for (std::string& flag : flags) pointers.push_back(flag.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  return run(only, json) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace qkv::bench

int main(int argc, char** argv) {
  try {
    return qkv::bench::start(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "attention_experiments: {}\n", e.what());
    return 2;
  }
}
