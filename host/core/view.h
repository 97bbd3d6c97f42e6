// A tensor after its checks.
#pragma once

#include <array>
#include <cstdint>

#include "qkv/qkv.h"

namespace qkv::host {

constexpr int64_t type_size(qkv_type type) {
  switch (type) {
    case QKV_TYPE_F32:
    case QKV_TYPE_I32:
      return 4;
    case QKV_TYPE_F16:
    case QKV_TYPE_BF16:
      return 2;
    case QKV_TYPE_I64:
      return 8;
    case QKV_TYPE_F8_E4M3:
    case QKV_TYPE_F8_E5M2:
    case QKV_TYPE_BOOL:
      return 1;
    default:
      return 0;
  }
}

const char* type_name(qkv_type type);

// A tensor of the problem. Extents are those of the whole problem: a broadcast axis has stride 0,
// and so has every axis of extent <= 1, so that equal problems compare equal.
struct View {
  void* data = nullptr;
  qkv_type type = QKV_TYPE_NONE;
  std::array<int64_t, 4> shape{};   // [batch, heads, seq, dim]
  std::array<int64_t, 4> stride{};  // in elements, >= 0

  bool present() const { return type != QKV_TYPE_NONE; }

  int64_t offset(int64_t b, int64_t h, int64_t i, int64_t d = 0) const {
    return b * stride[0] + h * stride[1] + i * stride[2] + d * stride[3];
  }

  template <class T>
  T* at(int64_t b, int64_t h, int64_t i, int64_t d = 0) const {
    return static_cast<T*>(data) + offset(b, h, i, d);
  }
};

}  // namespace qkv::host
