// The results of hard selection for one row, once its best key is known.
#pragma once

#include <cstdint>

#include "kernels/core/best_key.h"
#include "kernels/core/forward_args.h"

namespace qkv::kernels {

// A row of O, and where its keys are.
struct OutputRow {
  int32_t batch, head, head_kv, i;
};

// O = the best key's row of V bit for bit, its index, and LSE = factor * score; of a row without
// one +0, -1 and -inf. The row's `lanes` lanes together, 16 bytes each; an element has
// `element_bytes`, and d_v is a multiple of what 16 bytes hold, as are strides. A lane has kAtOnce
// of its parts on their way together.
template <int kAtOnce = 1>
static __device__ inline void write_selected(const ForwardArgs& args, int32_t element_bytes,
                                             const BestKey& best, float factor,
                                             const OutputRow& row, int lane, int lanes) {
  const bool empty = best.key == kNoKey;
  const Tensor &v = args.v, &o = args.o;
  const int64_t from =
      row.batch * v.batch + row.head_kv * v.head + (empty ? 0 : int64_t{best.key}) * v.row;
  const int64_t to = row.batch * o.batch + row.head * o.head + row.i * o.row;
  const auto* gV =
      reinterpret_cast<const uint4*>(static_cast<const char*>(v.data) + from * element_bytes);
  auto* gO = reinterpret_cast<uint4*>(static_cast<char*>(o.data) + to * element_bytes);
  const int chunks = args.d_v * element_bytes / 16;
  for (int first = lane; first < chunks; first += kAtOnce * lanes) {
    uint4 parts[kAtOnce];
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      parts[n] = make_uint4(0, 0, 0, 0);
      if (const int chunk = first + n * lanes; !empty && chunk < chunks) parts[n] = gV[chunk];
    }
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n)
      if (const int chunk = first + n * lanes; chunk < chunks) gO[chunk] = parts[n];
  }
  if (lane != 0) return;
  if (args.lse.data != nullptr)
    static_cast<float*>(args.lse.data)[row.batch * args.lse.batch + row.head * args.lse.head +
                                       row.i * args.lse.row] = factor * best.score;
  if (args.index.data == nullptr) return;
  const int64_t at =
      row.batch * args.index.batch + row.head * args.index.head + row.i * args.index.row;
  const int32_t index = empty ? -1 : best.key;
  if (args.index_i64)
    static_cast<int64_t*>(args.index.data)[at] = index;
  else
    static_cast<int32_t*>(args.index.data)[at] = index;
}

}  // namespace qkv::kernels
