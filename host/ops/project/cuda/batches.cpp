#include "host/ops/project/cuda/batches.h"

#include <algorithm>
#include <utility>

#include "host/core/status.h"

namespace qkv::host::project {
namespace {

// Elements between the columns of a matrix; of one column it says nothing, and must fit all the
// same.
int64_t pitch(int64_t stride, int64_t columns, int64_t rows) {
  return columns <= 1 ? rows : stride;
}

}  // namespace

Batches batches_of(const Problem& p) {
  Batches out;
  // Rows of all batches are rows of one matrix where strides allow.
  const auto follow = [&](const View& view) {
    return p.rows == 1 || view.stride[0] == p.rows * view.stride[2];
  };
  const bool one_matrix = p.batch == 1 || (follow(p.x) && follow(p.y));
  const bool rows_are_batches = p.rows == 1 && p.batch > 1;
  const bool heads_together = p.heads == 1 || p.y.stride[1] == p.dim;
  const size_t row_axis = rows_are_batches ? 0 : 2;

  out.rows = one_matrix ? p.batch * p.rows : p.rows;
  out.out = heads_together ? p.out() : p.dim;
  out.in = p.in;
  out.ld_x = pitch(p.x.stride[row_axis], out.rows, out.in);
  out.ld_y = pitch(p.y.stride[row_axis], out.rows, out.out);
  out.transpose_weight = p.weight_by_out();
  out.ld_weight = out.transpose_weight ? pitch(p.weight.stride[2], out.out, out.in)
                                       : pitch(p.weight.stride[3], out.in, out.out);

  const int64_t batches = one_matrix ? 1 : p.batch, heads = heads_together ? 1 : p.heads;
  const Batches::Step batch{p.x.stride[0], 0, 0, p.y.stride[0]};
  const Batches::Step head{0, p.dim * p.weight.stride[2], p.dim, p.y.stride[1]};
  out.count = batches, out.within = batch;
  out.calls = heads, out.between = head;
  if (heads > batches) {
    std::swap(out.count, out.calls);
    std::swap(out.within, out.between);
  }
  return out;
}

std::string decline_batches(const Batches& b) {
  const int64_t largest = std::max({b.out, b.rows, b.in, b.count, b.calls});
  if (largest > INT32_MAX) return text("a size of ", largest, "; at most 2^31 - 1 is taken");
  if (b.ld_x < b.in) return text("rows of x are ", b.ld_x, " elements apart and have ", b.in);
  const int64_t line = b.transpose_weight ? b.in : b.out;
  if (b.ld_weight < line)
    return text("lines of weight are ", b.ld_weight, " elements apart and have ", line);
  if (b.ld_y < b.out) return text("rows of y are ", b.ld_y, " elements apart and have ", b.out);
  return {};
}

}  // namespace qkv::host::project
