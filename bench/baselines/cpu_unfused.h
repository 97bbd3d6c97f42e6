// Unfused attention on the CPU: OpenBLAS sgemm for both products, row_softmax between them.
// Additive scores: a loop over all pairs with Highway's tanh. The best keys alone: a pass over each
// row of S.
//
// Debian's OpenBLAS has no 16-bit product: f16 and bf16 inputs are converted to fp32 first and the
// output is rounded at the end, both as part of the run.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bench/baselines/unfused.h"

namespace qkv::bench {

class CpuUnfused {
 public:
  CpuUnfused(const Unfused& problem, int threads);

  size_t workspace_bytes() const;

  // O = softmax(scale Q K^T) V; O = 0 for a query that sees no key. `workspace` is 64-byte aligned.
  // Sets OpenBLAS's process-wide number of threads to 1, so nothing else should use it meanwhile.
  void run(const void* q, const void* k, const void* v, void* o, void* workspace) const;

  // S alone, which stays in the workspace.
  void run_scores(const void* q, const void* k, void* workspace) const;

 private:
  // What a run works in.
  struct Memory {
    float* s;
    float* free;  // what is left of the workspace
  };
  Memory scores(const void* q, const void* k, void* workspace) const;
  const float* as_float(const void* in, int64_t n, float** memory) const;
  // Calls body(row, count, head_kv) for shares of the heads' rows, in parallel: whole heads where
  // they divide evenly among the threads, because threads inside BLAS would wait for each other.
  template <class Body>
  void for_each_share(const Body& body) const;
  void softmax(float* s) const;
  void mix_best(float* s, const float* v, float* o) const;

  Unfused problem_;
  int threads_;
  int64_t shares_;  // of a head
  int64_t rows_;    // of a share, the last one excepted
};

}  // namespace qkv::bench
