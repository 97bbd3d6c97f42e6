// A key and its score as one number, of which the larger one is the better key: what top-k
// selection keeps. NaN beats every number, and of equal scores, +0 and -0 among them, the lowest
// key is the best. All numbers are different, so that a row's best k are the same ones in the same
// order, however they are found. 0 stands for no key, and every key beats it.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"

namespace qkv::kernels {

using RankedKey = uint64_t;

// Above: the score's bits such that they grow with it; below: the key's complement.
QKV_HOST_DEVICE inline RankedKey ranked_key(float score, int32_t key) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 becomes +0
  constexpr uint32_t kSign = 0x80000000u;
  const uint32_t rank = score != score ? 0xffffffffu : (bits & kSign) != 0 ? ~bits : bits | kSign;
  return RankedKey{rank} << 32 | ~static_cast<uint32_t>(key);
}

// -inf of no key.
QKV_HOST_DEVICE inline float score_of(RankedKey key) {
  if (key == 0) return -INFINITY;
  const auto rank = static_cast<uint32_t>(key >> 32);
  constexpr uint32_t kSign = 0x80000000u;
  return std::bit_cast<float>((rank & kSign) != 0 ? rank ^ kSign : ~rank);
}

// -1 of no key.
QKV_HOST_DEVICE inline int32_t key_of(RankedKey key) {
  return static_cast<int32_t>(~static_cast<uint32_t>(key));
}

}  // namespace qkv::kernels
