// A projection as products of matrices in column-major memory, as cuBLAS has them. Of it y is seen
// transposed: y^T [out, rows] = W [out, in] x^T [in, rows].
#pragma once

#include <cstdint>
#include <string>

#include "host/ops/project/problem.h"

namespace qkv::host::project {

// Products of one size: `count` of them in a call, whose matrices lie strides apart, and `calls`
// calls. Where batches follow each other as rows do, and heads as columns do, it is one product.
struct Batches {
  struct Step {  // from one product to the next, in elements
    int64_t x = 0, weight = 0, bias = 0, y = 0;
  };

  int64_t out = 0, rows = 0, in = 0;          // of each product
  int64_t ld_x = 0, ld_weight = 0, ld_y = 0;  // elements between columns
  bool transpose_weight = false;              // [out, in] memory
  int64_t count = 1, calls = 1;
  Step within, between;  // the products of a call, calls
};

Batches batches_of(const Problem& problem);

// Why no such product does it; empty: they do.
std::string decline_batches(const Batches& batches);

}  // namespace qkv::host::project
