#include "bench/report.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <stdexcept>

namespace qkv::bench {
namespace {

std::string number(double value, const char* format) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

// Three significant digits, without an exponent.
std::string figure(double value) {
  if (std::isnan(value)) return "-";
  if (value >= 100) return fmt::format("{:.0f}", value);
  const int decimals = value >= 10 ? 1 : value >= 1 ? 2 : value >= 0.1 ? 3 : 4;
  return fmt::format("{:.{}f}", value, decimals);
}

std::ofstream open(const std::string& path) {
  std::ofstream out(path);
  if (!out) throw std::runtime_error("cannot write " + path);
  return out;
}

}  // namespace

void print_results(const std::vector<Result>& results) {
  if (results.empty()) return;
  fmt::print("{}\n", results.front().subject.name);
  fmt::print("  {:<22} {:>10} {:>10} {:>8} {:>10} {:>10}\n", "", "ms", "TFLOP/s", "GB/s",
             "x unfused", "% ceiling");
  for (const Result& r : results) {
    const std::string title =
        r.label.empty() ? r.implementation : r.implementation + ": " + r.label;
    if (!r.error.empty() || !r.declined.empty()) {
      fmt::print("  {:<22} {}\n", title, r.declined.empty() ? r.error : "declined: " + r.declined);
      continue;
    }
    fmt::print("  {:<22} {:>10} {:>10} {:>8} {:>10} {:>10}\n", title, figure(r.seconds * 1e3),
               figure(r.tflops), figure(r.gbytes), number(r.vs_unfused, "{:.2f}"),
               number(r.ceiling_percent, "{:.1f}"));
  }
  std::fflush(stdout);
}

TsvFile::TsvFile(const std::string& path, const Facts& facts) : out_(open(path)) {
  for (const auto& [key, value] : facts) out_ << "# " << key << ": " << value << "\n";
  out_ << "implementation\tdevice\ttype\td_qk\td_v\tmask\tb\thq\thkv\tsq\tskv\tms\ttflops\tgbs\t"
          "x_unfused\tceiling_percent\toptions\n";
}

void TsvFile::add(const std::vector<Result>& results) {
  for (const Result& r : results) {
    if (!r.error.empty() || !r.declined.empty()) continue;
    const std::string& options = r.subject.options;
    out_ << r.implementation << "\t" << r.subject.columns << "\t"
         << number(r.seconds * 1e3, "{:.5g}") << "\t" << number(r.tflops, "{:.5g}") << "\t"
         << number(r.gbytes, "{:.5g}") << "\t" << number(r.vs_unfused, "{:.4g}") << "\t"
         << number(r.ceiling_percent, "{:.4g}") << "\t" << (options.empty() ? "-" : options)
         << "\n";
  }
  out_.flush();
}

JsonFile::JsonFile(const std::string& path, const Facts& facts) : out_(open(path)) {
  for (const auto& [key, value] : facts) benchmark::AddCustomContext(key, value);
  benchmark::BenchmarkReporter::Context::executable_name = "attention_bench";
  reporter_.SetOutputStream(&out_);
  const benchmark::BenchmarkReporter::Context context;
  if (!reporter_.ReportContext(context)) throw std::runtime_error("cannot write " + path);
}

JsonFile::~JsonFile() { reporter_.Finalize(); }

void JsonFile::add(const std::vector<Result>& results) {
  for (const Result& r : results) {
    if (!r.runs.empty()) reporter_.ReportRuns(r.runs);
  }
  out_.flush();
}

}  // namespace qkv::bench
