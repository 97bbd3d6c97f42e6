// Probes: inputs made so that a wrong index, head, mask or tail shows in the output's bits, where
// no tolerance would see it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/verify/cases.h"

namespace qkv::verify {

// The layouts, masks, head ratios and dims that probes run over, in every type.
const std::vector<Case>& probe_rows();

// Every query picks one key, which gets all of the weight: O must be the picked row of V bit for
// bit, and LSE its score. Says what is wrong; "" if nothing is.
std::string selection_faults(Case row, uint64_t seed);

// How much each key gives to each query, seen in one-hot values: exactly nothing where the query
// does not see it, an equal share within an ulp where it does.
std::string leak_faults(const Case& row, uint64_t seed);

}  // namespace qkv::verify
