// A top-k problem by the keys that somebody chose for it: O, LSE and probabilities are those of
// soft attention over these keys, so that they can be judged whatever near ties decided.
#pragma once

#include <cstdint>
#include <vector>

#include "host/ops/attention/problem.h"

namespace qkv::reference {

struct OverSelected {
  // `chosen` is dense, [batch, heads_q, s_q, top_k], -1: none. Keys that are no key are left out.
  OverSelected(const host::attention::Problem& problem, const std::vector<int64_t>& chosen);
  OverSelected(const OverSelected&) = delete;
  OverSelected& operator=(const OverSelected&) = delete;

  std::vector<uint8_t> mask;
  // Soft, and sees the mask's keys alone. Has no index and no top_scores, nor weights that are not
  // probabilities: those are the weights of all keys.
  host::attention::Problem problem;
};

}  // namespace qkv::reference
