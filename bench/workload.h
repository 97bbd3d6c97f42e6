// A line of --problem, of any operation: what attention_bench measures.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/contender.h"
#include "bench/runner.h"
#include "bench/spec.h"
#include "qkv/qkv.h"

namespace qkv::bench {

class CudaBench;

class Workload {
 public:
  Workload() = default;
  virtual ~Workload() = default;
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  virtual Subject subject() const = 0;
  virtual qkv_device device() const = 0;
  // Of the product of matrices that "% ceiling" is taken from on CUDA; NONE: there is no such
  // figure.
  virtual qkv_type ceiling_type() const { return QKV_TYPE_NONE; }

  // The implementations' names, and why they decline. Not to be made.
  virtual std::vector<Candidate> names(CudaBench* cuda) const = 0;

  // The same, to be made, with their tensors in memory. `cuda` is null for problems on the CPU.
  struct Ready {
    std::vector<Candidate> candidates;
    Check check;
  };
  virtual Ready ready(CudaBench* cuda) const = 0;
};

// An operation of the benchmark.
struct Family {
  const char* word;    // that its lines begin with
  std::string fields;  // of its lines, for --help
  // Throws std::invalid_argument that names the field, what it holds and what is allowed.
  std::unique_ptr<Workload> (*parse)(const std::string& line);
};

// All of them. Each is in a file of bench/ops, by the name of the file: attention_family.
std::span<const Family* const> families();

// The workload that a line describes. Throws as Family::parse does.
std::unique_ptr<Workload> parse_workload(const std::string& line);

// Attention's, which sweeps are made of.
std::unique_ptr<Workload> attention_workload(const Spec& spec);

}  // namespace qkv::bench
