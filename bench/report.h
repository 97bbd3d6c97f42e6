// Results for people (text), for plots (TSV) and for machines (Google Benchmark's JSON).
#pragma once

#include <benchmark/benchmark.h>

#include <fstream>
#include <string>
#include <vector>

#include "bench/machine.h"
#include "bench/runner.h"

namespace qkv::bench {

// One problem as a small table on standard output.
void print_results(const std::vector<Result>& results);

// Facts as "# key: value" lines, a header line, then one line for each result:
// implementation, device, type, d_qk, d_v, mask, b, hq, hkv, sq, skv, ms, tflops, gbs, x_unfused,
// ceiling_percent, options (options_name()). "-" where there is none.
class TsvFile {
 public:
  // Throws std::runtime_error if the file cannot be written.
  TsvFile(const std::string& path, const Facts& facts);
  void add(const std::vector<Result>& results);

 private:
  std::ofstream out_;
};

// The facts are in its "context".
class JsonFile {
 public:
  // Throws std::runtime_error if the file cannot be written.
  JsonFile(const std::string& path, const Facts& facts);
  ~JsonFile();
  JsonFile(const JsonFile&) = delete;
  JsonFile& operator=(const JsonFile&) = delete;
  void add(const std::vector<Result>& results);

 private:
  std::ofstream out_;
  benchmark::JSONReporter reporter_;
};

}  // namespace qkv::bench
