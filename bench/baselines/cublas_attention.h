// Unfused attention on a GPU: cuBLAS for both products, softmax_rows between them; under hard
// selection best_rows behind the first. Needs no cuBLAS
// to link: the library is opened when it is first asked for.
#pragma once

#include <cstddef>
#include <string>

#include "bench/baselines/unfused.h"

namespace qkv::bench {

class CublasAttention {
 public:
  struct Options {
    bool tf32 = false;         // fp32 products on tensor cores
    bool fp32_scores = false;  // S in fp32 instead of the input type: slower, closer to the
                               // contract; hard selection needs it
  };

  // Why cuBLAS cannot be used on this machine; empty: it can. Looked for, in this order: what
  // QKV_CUBLAS names (the library or its folder), the loader's path, the CUDA toolkit's folder, the
  // Python packages nvidia-cublas and nvidia-cublas-cu12. Does not ask for a GPU.
  static std::string available();

  explicit CublasAttention(const Unfused& problem);
  CublasAttention(const Unfused& problem, Options options);
  ~CublasAttention();
  CublasAttention(const CublasAttention&) = delete;
  CublasAttention& operator=(const CublasAttention&) = delete;

  // cuBLAS's own share included.
  size_t workspace_bytes() const;

  // The rows of x times those of a weight, heads apart: y [heads, rows, dim]. `ld`: elements from
  // line to line of the weight, whose lines are rows of it, or columns where it is [in, out].
  struct Product {
    const void *x, *weight;
    void* y;
    int64_t rows, in, heads, dim, ld;
    bool in_out;
  };
  [[nodiscard]] std::string multiply(const Product& product, void* workspace, void* stream);

  // Queues the three steps on `stream` of the current device, which must be the same in every run.
  // All pointers are device memory; `workspace` is 256-byte aligned. Returns what went wrong, with
  // cuBLAS's or CUDA's number; empty: nothing.
  [[nodiscard]] std::string run(const void* q, const void* k, const void* v, void* o,
                                void* workspace, void* stream);

  // The first product alone; S stays in the workspace.
  [[nodiscard]] std::string run_scores(const void* q, const void* k, void* workspace, void* stream);

 private:
  // cuBLAS's handle, on this stream, with the workspace's first bytes.
  std::string prepare(void* workspace, void* stream);

  Unfused problem_;
  Options options_;
  void* handle_ = nullptr;  // cublasHandle_t, made by the first run
};

}  // namespace qkv::bench
