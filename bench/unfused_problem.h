// What the unfused baselines compute: plain attention on contiguous tensors of their own.
#pragma once

#include <string>

#include "bench/baselines/unfused.h"
#include "bench/spec.h"

namespace qkv::bench {

// Why they cannot do the problem; empty: they can.
std::string unfused_declines(const Spec& spec);

// The same of its first product alone, which does not care what is selected.
std::string product_declines(const Spec& spec);

// The same problem, as they want it. `scale` is the library's.
Unfused unfused_problem(const Spec& spec, float scale);

}  // namespace qkv::bench
