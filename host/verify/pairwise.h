// Cases in which every two values of every two options of the contract meet at least once, where
// the contract allows the two together.
#pragma once

#include <cstddef>
#include <vector>

#include "host/verify/cases.h"

namespace qkv::verify {

struct Pairwise {
  std::vector<Case> rows;
  size_t options = 0, values = 0;  // of all options
  size_t pairs = 0;                // of values that may meet
  size_t missed = 0;               // of these, in no row
};

// The same rows in every process.
const Pairwise& pairwise();

}  // namespace qkv::verify
