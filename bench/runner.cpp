#include "bench/runner.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <regex>
#include <sstream>
#include <utility>

namespace qkv::bench {
namespace {

using benchmark::BenchmarkReporter;
using benchmark::Counter;

constexpr const char* kTflops = "TFLOP/s";
constexpr const char* kGbytes = "GB/s";
constexpr const char* kMemory = "memory_bytes";
constexpr const char* kVsUnfused = "x_unfused";
constexpr const char* kCeiling = "%_ceiling";

// A candidate on its way through the benchmark: made and checked at its first run.
struct Entry {
  const Candidate* candidate;
  std::unique_ptr<Contender> contender;
  std::string error;
};

void make_and_check(const Check& check, Entry* entry) {
  if (entry->contender != nullptr || !entry->error.empty()) return;
  try {
    auto contender = entry->candidate->make();
    contender->poison();
    contender->run();
    if (contender->fetch()) {
      const std::string wrong = check(contender->rounds_scores());
      if (!wrong.empty()) entry->error = "wrong result, not timed: " + wrong;
    }
    entry->contender = std::move(contender);
  } catch (const std::exception& e) {
    entry->error = e.what();
  }
}

void time_entry(benchmark::State& state, double bytes, const Check& check, Entry* entry) {
  make_and_check(check, entry);
  if (!entry->error.empty()) {
    state.SkipWithError(entry->error.c_str());
    return;
  }
  double flops_done = 0;
  try {
    for (auto _ : state) {
      const Measurement once = entry->contender->run();
      flops_done = once.flops;
      state.SetIterationTime(once.seconds);
    }
  } catch (const std::exception& e) {
    entry->error = e.what();
    state.SkipWithError(entry->error.c_str());
    return;
  }
  state.SetLabel(entry->candidate->label);
  state.counters[kTflops] = Counter(flops_done * 1e-12, Counter::kIsIterationInvariantRate);
  if (const size_t memory = entry->contender->memory_bytes(); memory > 0)
    state.counters[kMemory] = static_cast<double>(memory);
  state.counters[kGbytes] = Counter(bytes * 1e-9, Counter::kIsIterationInvariantRate);
}

// Keeps every run, prints nothing.
class Collector : public BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    runs_.insert(runs_.end(), runs.begin(), runs.end());
  }

  // The runs of one benchmark, its name as registered.
  std::vector<Run> of(const std::string& name) const {
    std::vector<Run> out;
    for (Run run : runs_) {
      if (run.run_name.function_name != name) continue;
      run.run_name.time_type.clear();
      out.push_back(std::move(run));
    }
    return out;
  }

 private:
  std::vector<Run> runs_;
};

double median(std::vector<double> values) {
  if (values.empty()) return kUnknown;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double seconds_of(const BenchmarkReporter::Run& run) {
  return run.GetAdjustedRealTime() / benchmark::GetTimeUnitMultiplier(run.time_unit);
}

void summarise(Result* result) {
  std::vector<double> seconds, tflops, gbytes;
  for (const auto& run : result->runs) {
    if (run.error_occurred) result->error = run.error_message;
    // With --benchmark_report_aggregates_only the median is all there is.
    const bool single = run.run_type == BenchmarkReporter::Run::RT_Iteration;
    if (run.error_occurred || !(single || run.aggregate_name == "median")) continue;
    if (!single && !seconds.empty()) continue;
    seconds.push_back(seconds_of(run));
    tflops.push_back(run.counters.at(kTflops));
    gbytes.push_back(run.counters.at(kGbytes));
  }
  result->seconds = median(seconds);
  result->tflops = median(tflops);
  result->gbytes = median(gbytes);
}

double tflops_of(const std::vector<Result>& results, const char* implementation) {
  for (const Result& r : results) {
    if (r.implementation == implementation) return r.tflops;
  }
  return kUnknown;
}

// Ratios stand beside Google Benchmark's own counters, so that they are in the JSON too.
void compare(std::vector<Result>* results, double ceiling_tflops) {
  const double unfused = tflops_of(*results, kUnfused);
  if (std::isnan(ceiling_tflops)) ceiling_tflops = tflops_of(*results, kTileProducts);
  for (Result& r : *results) {
    if (r.implementation != kTileProducts) r.vs_unfused = r.tflops / unfused;
    r.ceiling_percent = 100 * r.tflops / ceiling_tflops;
    for (auto& run : r.runs) {
      const bool figures = run.run_type == BenchmarkReporter::Run::RT_Iteration ||
                           run.aggregate_name == "median" || run.aggregate_name == "mean";
      if (run.error_occurred || !figures) continue;
      const double tflops = run.counters.at(kTflops);
      if (!std::isnan(r.vs_unfused)) run.counters[kVsUnfused] = tflops / unfused;
      if (!std::isnan(r.ceiling_percent)) run.counters[kCeiling] = 100 * tflops / ceiling_tflops;
    }
  }
}

}  // namespace

Filter::Filter() : pattern_(benchmark::GetBenchmarkFilter()) {
  if (pattern_.empty() || pattern_ == "all") pattern_ = ".";
  if (pattern_[0] == '-') {
    negative_ = true;
    pattern_.erase(0, 1);
  }
}

bool Filter::admits(const std::string& name) const {
  const std::regex regex(pattern_, std::regex::extended);
  return std::regex_search(name, regex) != negative_;
}

Subject subject_of(const Spec& s) {
  std::ostringstream columns;
  columns << device_name(s.device) << "\t" << type_name(s.type) << "\t" << s.d_qk << "\t" << s.d_v
          << "\t" << mask_name(s) << "\t" << s.batch << "\t" << s.heads_q << "\t" << s.heads_kv
          << "\t" << s.s_q << "\t" << s.s_kv;
  return {name(s), columns.str(), options_name(s), compulsory_bytes(s)};
}

std::string benchmark_name(const Subject& subject, const std::string& implementation) {
  return implementation == kQkv ? subject.name : subject.name + "/" + implementation;
}

std::vector<Result> run_problem(const Subject& subject, const std::vector<Candidate>& candidates,
                                const Check& check, double ceiling_tflops) {
  std::vector<Entry> entries;
  for (const Candidate& candidate : candidates) entries.push_back({&candidate, nullptr, {}});
  for (Entry& entry : entries) {
    if (!entry.candidate->declined.empty()) continue;
    const auto body = [&subject, &check, &entry](benchmark::State& state) {
      time_entry(state, subject.bytes, check, &entry);
    };
    const std::string title = benchmark_name(subject, entry.candidate->name);
    benchmark::RegisterBenchmark(title.c_str(), body)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector, ".");
  benchmark::ClearRegisteredBenchmarks();

  std::vector<Result> results;
  for (const Entry& entry : entries) {
    Result result;
    result.subject = subject;
    result.implementation = entry.candidate->name;
    result.label = entry.candidate->label;
    result.declined = entry.candidate->declined;
    result.runs = collector.of(benchmark_name(subject, entry.candidate->name));
    summarise(&result);
    results.push_back(std::move(result));
  }
  compare(&results, ceiling_tflops);
  return results;
}

void join_pass(std::vector<Result> pass, double ceiling_tflops, std::vector<Result>* results) {
  for (size_t n = 0; n < pass.size(); ++n) {
    Result& all = results->at(n);
    if (all.error.empty()) all.error = pass[n].error;
    auto& runs = all.runs;
    runs.insert(runs.end(), pass[n].runs.begin(), pass[n].runs.end());
    // Aggregates are of one pass.
    std::erase_if(
        runs, [](const auto& run) { return run.run_type != BenchmarkReporter::Run::RT_Iteration; });
    for (size_t run = 0; run < runs.size(); ++run) {
      runs[run].repetition_index = static_cast<int64_t>(run);
      runs[run].repetitions = static_cast<int64_t>(runs.size());
    }
    summarise(&all);
  }
  compare(results, ceiling_tflops);
}

}  // namespace qkv::bench
