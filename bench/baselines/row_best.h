// The best of a row of stored scores.
#pragma once

#include <cstdint>

namespace qkv::bench {

struct Ranked {
  float score;
  int64_t key;
};

// The `most` best of `count` scores without NaN, the best first, of equal ones the earlier first.
// Returns how many they are. `s` is 64-byte aligned.
int64_t row_best(const float* s, int64_t count, int64_t most, Ranked* best);

}  // namespace qkv::bench
