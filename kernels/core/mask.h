// Which keys a query sees, by key length, causal mask and window.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"
#include "kernels/host_device.h"

namespace qkv::kernels {

// Keys [begin, end); none if begin >= end.
struct KeyRange {
  int32_t begin, end;
};

// Query i sees keys [i + begin, i + end), cut to [0, length): a band along the diagonal. Both
// bounds grow with i, so the first and the last row of a tile bound the others.
struct KeyMask {
  int32_t length;
  int32_t begin, end;
  int64_t offset;  // query i's diagonal is at key i + offset

  QKV_HOST_DEVICE KeyRange keys(int64_t i) const { return {cut(i, begin), cut(i, end)}; }

  // Of the queries [i, i + rows), rows > 0: the keys that at least one sees, and the ones that
  // every one sees, whose scores therefore need no mask.
  QKV_HOST_DEVICE KeyRange visible_keys(int32_t i, int32_t rows) const {
    return {keys(i).begin, keys(int64_t{i} + rows - 1).end};
  }
  QKV_HOST_DEVICE KeyRange unmasked_keys(int32_t i, int32_t rows) const {
    return {keys(int64_t{i} + rows - 1).begin, keys(i).end};
  }

  // A bound as 32 bits. Rows and keys are below 2^31 - 1: bounds beyond it have its effect.
  QKV_HOST_DEVICE static int32_t saturate(int64_t bound) {
    constexpr int64_t kBeyond = 0x7fffffff;
    return static_cast<int32_t>(bound < -kBeyond ? -kBeyond : bound > kBeyond ? kBeyond : bound);
  }

 private:
  QKV_HOST_DEVICE int32_t cut(int64_t i, int32_t bound) const {
    const int64_t j = i + bound;
    return j < 0 ? 0 : j > length ? length : static_cast<int32_t>(j);
  }
};

// The number of keys of batch b.
QKV_HOST_DEVICE inline int32_t key_length(const ForwardArgs& args, int32_t b) {
  if (args.kv_lengths == nullptr) return args.s_kv;
  const int64_t at = b * args.kv_lengths_stride;
  const int64_t given = args.kv_lengths_i64 ? static_cast<const int64_t*>(args.kv_lengths)[at]
                                            : static_cast<const int32_t*>(args.kv_lengths)[at];
  return given < 0 ? 0 : given < args.s_kv ? static_cast<int32_t>(given) : args.s_kv;
}

// The mask of a batch with `length` keys. |offset|, left and right are at most 2^61, so that no sum
// overflows.
QKV_HOST_DEVICE inline KeyMask key_mask_of_length(const ForwardArgs& args, int32_t length) {
  const int64_t offset = args.bottom_right ? int64_t{length} - args.s_q : args.offset;
  return {length, KeyMask::saturate(offset - args.left), KeyMask::saturate(offset + args.right + 1),
          offset};
}

// The mask of batch b.
QKV_HOST_DEVICE inline KeyMask key_mask(const ForwardArgs& args, int32_t b) {
  return key_mask_of_length(args, key_length(args, b));
}

}  // namespace qkv::kernels
