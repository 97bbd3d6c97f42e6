// A layer on a GPU as a program writes it that has cuBLAS and no attention library: a product for
// each head of each projection, unfused attention, copies that put heads side by side, a product.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "bench/baselines/cublas_attention.h"

namespace qkv::bench {

struct CublasLayerShape {
  Unfused middle;
  int64_t e_q = 0, e_kv = 0, e_y = 0;  // widths; e_y 0: no output product
  bool packed = false;                 // the first weight is those of Q, K and V
  std::array<bool, 4> in_out{};        // weights of q, k, v, o
};

// Contiguous device memory; x_kv is x_q for self-attention.
struct CublasLayerTensors {
  const void *x_q, *x_kv;
  std::array<const void*, 4> weights;  // of q, k, v, o
  void* y;
};

class CublasLayer {
 public:
  // As CublasAttention has it.
  static std::string available();

  explicit CublasLayer(const CublasLayerShape& shape);

  size_t workspace_bytes() const;

  // As CublasAttention::run().
  [[nodiscard]] std::string run(const CublasLayerTensors& tensors, void* workspace, void* stream);

 private:
  std::string project(int which, const void* x, const CublasLayerTensors& tensors, void* y,
                      void* workspace, void* stream);

  CublasLayerShape shape_;
  CublasAttention attention_;
};

}  // namespace qkv::bench
