// cuDNN's fused attention: the graph that cuDNN recognises as such (a product, scale, mask, softmax
// as reductions and pointwise operations, a product), described through its backend API. Needs no
// cuDNN to build: libcudnn is opened when it is first asked for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/baselines/cudnn_backend.h"
#include "bench/spec.h"

namespace qkv::bench {

// [batch, heads, seq, dim], strides in elements.
struct CudnnTensor {
  std::array<int64_t, 4> shape{}, stride{};
};

// Key j is visible to query i when i + offset - left <= j <= i + offset + right.
struct CudnnProblem {
  qkv_type type = QKV_TYPE_BF16;  // f16 or bf16
  CudnnTensor q, k, v, o;
  float scale = 1;
  int64_t offset = 0;                  // read where there is a bound
  std::optional<int64_t> left, right;  // absent: unbounded
};

// Why the graph cannot say the problem; empty: it can. What cuDNN makes of it is another question.
std::string cudnn_declines(const Spec& spec);

// The same problem, as the graph says it. `scale` is the library's.
CudnnProblem cudnn_problem(const Spec& spec, float scale);

// An opened libcudnn.
class Cudnn {
 public:
  // The first of these files that can be opened.
  explicit Cudnn(const std::vector<std::string>& files);

  // The one of this process, opened at the first call. Looked for, in this order: what QKV_CUDNN
  // names (the library or its folder), the loader's path, the CUDA toolkit's folder, the Python
  // packages nvidia-cudnn-cu13 and nvidia-cudnn-cu12.
  static const Cudnn& instance();

  // Why it cannot be used on this machine; empty: it can. Does not ask for a GPU.
  const std::string& missing() const { return missing_; }
  std::string version() const;  // "9.19.0"
  const cudnn::Functions& functions() const { return functions_; }

 private:
  cudnn::Functions functions_;
  std::string missing_;
};

// Whether cuDNN has engines for the problem on a device that is not here, by its heuristics alone:
// "" or why not. `device` is the JSON of CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION. From 9.8 on.
std::string cudnn_accepts(const Cudnn& library, const CudnnProblem& problem,
                          const std::string& device);

class CudnnAttention {
 public:
  // Asks cuDNN for a plan on the current device. Throws std::runtime_error with its reason if it
  // has none.
  CudnnAttention(const Cudnn& library, const CudnnProblem& problem);
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  size_t workspace_bytes() const;

  // Queues the run on `stream`. All pointers are device memory, 16-byte aligned. Throws
  // std::runtime_error.
  void run(void* q, void* k, void* v, void* o, void* workspace, void* stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qkv::bench
