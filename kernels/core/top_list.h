// Room of a row's list of its best keys in shared memory (core/top_list.cuh), for plans and
// kernels.
#pragma once

#include <cstdint>

#include "kernels/core/ranked_key.h"

namespace qkv::kernels {

inline constexpr int32_t kTopPending = 32;  // keys that wait beside a list

// Places from one list to the next: an odd number, so that lists begin on different banks.
constexpr int32_t top_list_places(int32_t k) { return (k + kTopPending) | 1; }

constexpr int32_t top_list_bytes(int32_t k) {
  return top_list_places(k) * static_cast<int32_t>(sizeof(RankedKey));
}

}  // namespace qkv::kernels
