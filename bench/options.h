// The benchmark's command line, beside Google Benchmark's own flags.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/workload.h"

namespace qkv::bench {

struct Options {
  // In the order to run; a CUDA problem only if asked for or possible.
  std::vector<std::unique_ptr<Workload>> problems;
  std::string json;     // --benchmark_out
  std::string tsv;      // --tsv
  int passes = 1;       // over all problems, each with --benchmark_repetitions
  bool list = false;    // --benchmark_list_tests
  bool ceiling = true;  // off with --no-ceiling
};

// Parses, hands Google Benchmark its flags, and fills in the defaults. Exits for --help. Throws
// std::invalid_argument or CLI::Error for a wrong line.
Options parse_options(int argc, char** argv, bool has_gpu);

}  // namespace qkv::bench
