// A problem small enough to be written out by hand: fp32, one batch unless a test says otherwise,
// contiguous [batch, heads, seq, dim].
#pragma once

#include <array>
#include <stdexcept>
#include <vector>

#include "host/core/device.h"
#include "host/ops/attention/problem.h"
#include "qkv/qkv.h"

namespace qkv::test {

using Shape = std::array<int64_t, 4>;

// A contiguous view of `data`.
template <class T>
qkv_tensor contiguous(std::vector<T>& data, qkv_type type, const Shape& shape) {
  qkv_tensor tensor{};
  tensor.data = data.data();
  tensor.type = type;
  int64_t stride = 1;
  for (size_t axis = 4; axis-- > 0;) {
    tensor.shape[axis] = shape[axis];
    tensor.stride[axis] = stride;
    stride *= shape[axis];
  }
  return tensor;
}

// Q, K, V and O of the given sizes, zero, with a descriptor of defaults over them.
struct SmallProblem {
  struct Sizes {
    int64_t batch = 1, heads_q = 1, heads_kv = 1, s_q = 1, s_kv = 1, d_qk = 1, d_v = 1;
  };

  explicit SmallProblem(const Sizes& n)
      : q(static_cast<size_t>(n.batch * n.heads_q * n.s_q * n.d_qk)),
        k(static_cast<size_t>(n.batch * n.heads_kv * n.s_kv * n.d_qk)),
        v(static_cast<size_t>(n.batch * n.heads_kv * n.s_kv * n.d_v)),
        o(static_cast<size_t>(n.batch * n.heads_q * n.s_q * n.d_v)),
        lse(static_cast<size_t>(n.batch * n.heads_q * n.s_q)) {
    if (qkv_attention_desc_init(&desc, sizeof desc) != QKV_SUCCESS) {
      throw std::runtime_error(qkv_last_error());
    }
    desc.device = QKV_DEVICE_CPU;
    desc.q = contiguous(q, QKV_TYPE_F32, {n.batch, n.heads_q, n.s_q, n.d_qk});
    desc.k = contiguous(k, QKV_TYPE_F32, {n.batch, n.heads_kv, n.s_kv, n.d_qk});
    desc.v = contiguous(v, QKV_TYPE_F32, {n.batch, n.heads_kv, n.s_kv, n.d_v});
    desc.o = contiguous(o, QKV_TYPE_F32, {n.batch, n.heads_q, n.s_q, n.d_v});
    desc.lse = contiguous(lse, QKV_TYPE_F32, {n.batch, n.heads_q, n.s_q, 1});
  }
  SmallProblem(const SmallProblem&) = delete;
  SmallProblem& operator=(const SmallProblem&) = delete;

  std::vector<float> q, k, v, o, lse;
  qkv_attention_desc desc;
};

}  // namespace qkv::test
