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

#include "bench/cpu_contenders.h"
#include "bench/cuda_bench.h"
#include "bench/machine.h"
#include "bench/options.h"
#include "bench/report.h"
#include "bench/runner.h"
#include "bench/tensors.h"

namespace qkv::bench {
namespace {

bool on_cuda(const Spec& spec) { return spec.device == QKV_DEVICE_CUDA; }

// What is to be timed on the problem. Without tensors: names only, not to be made.
std::vector<Candidate> candidates_of(const Spec& spec, CudaBench* cuda,
                                     const std::shared_ptr<const Tensors>& tensors) {
  static const Filter filter;
  auto out = on_cuda(spec) ? cuda->candidates(spec, tensors) : cpu_candidates(spec, tensors);
  std::erase_if(out,
                [&](const Candidate& c) { return !filter.admits(benchmark_name(spec, c.name)); });
  return out;
}

// Facts of the GPU too, its ceiling measured before anything else runs.
Facts facts_of(const Options& options, CudaBench* cuda) {
  Facts facts = machine_facts();
  if (cuda == nullptr) return facts;
  for (const Spec& spec : options.problems) {
    if (on_cuda(spec) && options.ceiling) cuda->ceiling_tflops(spec.type);
  }
  for (auto& entry : cuda->facts()) facts.push_back(std::move(entry));
  return facts;
}

void list(const Options& options, CudaBench* cuda) {
  for (const Spec& spec : options.problems) {
    for (const Candidate& c : candidates_of(spec, cuda, nullptr)) {
      if (c.declined.empty()) fmt::print("{}\n", benchmark_name(spec, c.name));
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

  int failed = 0;
  for (const Spec& spec : options.problems) {
    if (candidates_of(spec, cuda, nullptr).empty()) continue;
    const auto tensors = std::make_shared<const Tensors>(spec);
    const Reference reference(tensors->problem());
    const double ceiling =
        on_cuda(spec) && options.ceiling ? cuda->ceiling_tflops(spec.type) : kUnknown;
    const auto results = run_problem(spec, candidates_of(spec, cuda, tensors), reference, ceiling);
    print_results(results);
    if (tsv) tsv->add(results);
    if (json) json->add(results);
    for (const Result& r : results) failed += r.error.empty() ? 0 : 1;
  }
  return failed;
}

int run(int argc, char** argv) {
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
    return qkv::bench::run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "attention_bench: {}\n", e.what());
    return 2;
  }
}
