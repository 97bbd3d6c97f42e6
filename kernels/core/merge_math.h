// Soft attention over all keys from parts over disjoint sets of keys, each with its O and LSE:
// O = sum_n w_n O_n / l with w_n = exp(LSE_n - m), l = sum_n w_n, m = max_n LSE_n. A part without
// keys (LSE_n = -inf) has weight 0 and must not be read. The best part has weight 1 exactly: a part
// that is alone comes out bit for bit.
#pragma once

#include <cmath>

#include "kernels/host_device.h"

namespace qkv::kernels {

QKV_HOST_DEVICE inline float part_weight(float lse, float m) {
  return lse == -INFINITY ? 0 : expf(lse - m);
}

// The LSE of the whole; l = 0 means that no part has keys.
QKV_HOST_DEVICE inline float merged_lse(float m, float l) {
  return l == 0 ? -INFINITY : m + logf(l);
}

QKV_HOST_DEVICE inline float merged_o(float sum, float l) { return l == 0 ? 0 : sum / l; }

}  // namespace qkv::kernels
