#include "bench/baselines/cublas_layer.h"

#include <cuda_runtime_api.h>

#include <utility>

#include "host/core/view.h"

namespace qkv::bench {
namespace {

size_t aligned(int64_t bytes) { return static_cast<size_t>((bytes + 255) / 256 * 256); }

}  // namespace

std::string CublasLayer::available() { return CublasAttention::available(); }

CublasLayer::CublasLayer(const CublasLayerShape& shape) : shape_(shape), attention_(shape.middle) {}

// Behind attention's own: Q, K, V, O, and O's rows.
size_t CublasLayer::workspace_bytes() const {
  const Unfused& m = shape_.middle;
  const int64_t size = host::type_size(m.type);
  const int64_t queries = m.batch * m.heads_q * m.s_q, keys = m.batch * m.heads_kv * m.s_kv;
  return aligned(static_cast<int64_t>(attention_.workspace_bytes())) +
         aligned(queries * m.d_qk * size) + aligned(keys * m.d_qk * size) +
         aligned(keys * m.d_v * size) + 2 * aligned(queries * m.d_v * size);
}

// Q, K or V of all batches.
std::string CublasLayer::project(int which, const void* x, const CublasLayerTensors& tensors,
                                 void* y, void* workspace, void* stream) {
  const Unfused& m = shape_.middle;
  const int64_t size = host::type_size(m.type);
  const int64_t heads = which == 0 ? m.heads_q : m.heads_kv, dim = which == 2 ? m.d_v : m.d_qk;
  const int64_t rows = which == 0 ? m.s_q : m.s_kv, in = which == 0 ? shape_.e_q : shape_.e_kv;
  const size_t from = shape_.packed ? 0 : static_cast<size_t>(which);
  const int64_t all = (m.heads_q + 2 * m.heads_kv) * m.d_qk;
  const int64_t before = which == 0 ? 0 : which == 1 ? m.heads_q : m.heads_q + m.heads_kv;
  const int64_t first = shape_.packed ? before * m.d_qk : 0;
  const bool in_out = shape_.in_out[from];
  const auto* const weight =
      static_cast<const std::byte*>(tensors.weights[from]) + first * (in_out ? 1 : in) * size;
  const int64_t ld = !in_out ? in : shape_.packed ? all : heads * dim;
  for (int64_t b = 0; b < m.batch; ++b) {
    const auto* const x_b = static_cast<const std::byte*>(x) + b * rows * in * size;
    auto* const y_b = static_cast<std::byte*>(y) + b * heads * rows * dim * size;
    std::string wrong = attention_.multiply({x_b, weight, y_b, rows, in, heads, dim, ld, in_out},
                                            workspace, stream);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::string CublasLayer::run(const CublasLayerTensors& tensors, void* workspace, void* stream) {
  const Unfused& m = shape_.middle;
  const int64_t size = host::type_size(m.type), out = m.heads_q * m.d_v;
  const int64_t queries = m.batch * m.heads_q * m.s_q, keys = m.batch * m.heads_kv * m.s_kv;
  auto* next = static_cast<std::byte*>(workspace) +
               aligned(static_cast<int64_t>(attention_.workspace_bytes()));
  const auto take = [&](int64_t elements) {
    return std::exchange(next, next + aligned(elements * size));
  };
  auto *const q = take(queries * m.d_qk), *const k = take(keys * m.d_qk);
  auto *const v = take(keys * m.d_v), *const o = take(queries * m.d_v);
  auto* const rows = shape_.e_y > 0 ? take(queries * m.d_v) : static_cast<std::byte*>(tensors.y);

  const std::pair<const void*, std::byte*> products[] = {
      {tensors.x_q, q}, {tensors.x_kv, k}, {tensors.x_kv, v}};
  for (int which = 0; which < 3; ++which) {
    std::string wrong =
        project(which, products[which].first, tensors, products[which].second, workspace, stream);
    if (!wrong.empty()) return wrong;
  }
  if (std::string wrong = attention_.run(q, k, v, o, workspace, stream); !wrong.empty())
    return wrong;
  // Heads side by side: a copy of columns for each.
  for (int64_t head = 0; head < m.batch * m.heads_q; ++head) {
    const auto bytes = static_cast<size_t>(m.d_v * size);
    std::byte* const to = rows + (head / m.heads_q * m.s_q * out + head % m.heads_q * m.d_v) * size;
    if (const int code =
            cudaMemcpy2DAsync(to, static_cast<size_t>(out * size), o + head * m.s_q * m.d_v * size,
                              bytes, bytes, static_cast<size_t>(m.s_q), cudaMemcpyDeviceToDevice,
                              static_cast<cudaStream_t>(stream)))
      return "cudaMemcpy2DAsync failed with " + std::to_string(code);
  }
  if (shape_.e_y == 0) return "";
  return attention_.multiply({rows, tensors.weights[3], tensors.y, m.batch * m.s_q, out, 1,
                              shape_.e_y, shape_.in_out[3] ? shape_.e_y : out, shape_.in_out[3]},
                             workspace, stream);
}

}  // namespace qkv::bench
