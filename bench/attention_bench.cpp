// attention_bench: throughput of qkv and of other implementations of the same problem, in one run,
// each checked against the same reference before it is timed.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bench/cuda_bench.h"
#include "bench/machine.h"
#include "bench/memory_rate.h"
#include "bench/options.h"
#include "bench/report.h"
#include "bench/runner.h"
#include "bench/workload.h"

namespace qkv::bench {
namespace {

bool on_cuda(const std::unique_ptr<Workload>& problem) {
  return problem->device() == QKV_DEVICE_CUDA;
}

// Those that --benchmark_filter lets through.
std::vector<Candidate> admitted(const Subject& subject, std::vector<Candidate> all) {
  static const Filter filter;
  std::erase_if(
      all, [&](const Candidate& c) { return !filter.admits(benchmark_name(subject, c.name)); });
  return all;
}

// The rate that a problem's is compared with; NaN: none, or the tile products of its own run.
double ceiling_of(const Options& options, const std::unique_ptr<Workload>& problem,
                  CudaBench* cuda) {
  const bool measured = on_cuda(problem) && options.ceiling;
  if (!measured || problem->ceiling_type() == QKV_TYPE_NONE) return kUnknown;
  return cuda->ceiling_tflops(problem->ceiling_type());
}

// Facts of the GPU too, ceilings measured before anything else runs.
Facts facts_of(const Options& options, CudaBench* cuda) {
  Facts facts = machine_facts();
  const auto& problems = options.problems;
  if (options.ceiling && !std::all_of(problems.begin(), problems.end(), on_cuda))
    facts.emplace_back("memory_rate_cpu", fmt::format("{:.1f} GB/s", host_read_rate() * 1e-9));
  if (cuda == nullptr) return facts;
  if (options.ceiling) cuda->measure_memory();
  for (const auto& problem : problems) (void)ceiling_of(options, problem, cuda);
  for (auto& entry : cuda->facts()) facts.push_back(std::move(entry));
  return facts;
}

void list(const Options& options, CudaBench* cuda) {
  for (const auto& problem : options.problems) {
    const Subject subject = problem->subject();
    for (const Candidate& c : admitted(subject, problem->names(cuda))) {
      if (c.declined.empty()) fmt::print("{}\n", benchmark_name(subject, c.name));
    }
  }
}

// The number of results that could not be timed.
int measure(const Options& options, CudaBench* cuda) {
  const Facts facts = facts_of(options, cuda);
  for (const auto& [key, value] : facts) fmt::print("# {}: {}\n", key, value);
  std::optional<TsvFile> tsv;
  std::optional<JsonFile> json;
  if (!options.tsv.empty()) tsv.emplace(options.tsv, facts);
  if (!options.json.empty()) json.emplace(options.json, facts);

  std::vector<std::vector<Result>> all(options.problems.size());
  int failed = 0;
  for (int pass = 1; pass <= options.passes; ++pass) {
    if (pass < options.passes) fmt::print("pass {} of {}\n", pass, options.passes);
    std::fflush(stdout);
    for (size_t n = 0; n < all.size(); ++n) {
      const auto& problem = options.problems[n];
      const Subject subject = problem->subject();
      if (admitted(subject, problem->names(cuda)).empty()) continue;
      const double ceiling = ceiling_of(options, problem, cuda);
      const Workload::Ready ready = problem->ready(cuda);
      auto results =
          run_problem(subject, admitted(subject, ready.candidates), ready.check, ceiling);
      if (pass == 1)
        all[n] = std::move(results);
      else
        join_pass(std::move(results), ceiling, &all[n]);
      if (pass < options.passes) continue;
      print_results(all[n]);
      if (tsv) tsv->add(all[n]);
      if (json) json->add(all[n]);
      for (const Result& r : all[n]) failed += r.error.empty() ? 0 : 1;
    }
  }
  return failed;
}

int run_program(int argc, char** argv) {
  const Options options = parse_options(argc, argv, CudaBench::available());
  std::unique_ptr<CudaBench> cuda;
  if (std::any_of(options.problems.begin(), options.problems.end(), on_cuda)) {
    cuda = std::make_unique<CudaBench>();
  } else if (!CudaBench::available()) {
    fmt::print(stderr, "No CUDA device here ({}): only the CPU is measured.\n",
               CudaBench::why_not());
  }
  if (options.list) {
    list(options, cuda.get());
    return 0;
  }
  return measure(options, cuda.get()) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace qkv::bench

int main(int argc, char** argv) {
  try {
    return qkv::bench::run_program(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "attention_bench: {}\n", e.what());
    return 2;
  }
}
