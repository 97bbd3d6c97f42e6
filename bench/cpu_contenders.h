// The implementations on the CPU, timed by wall clock on all cores.
#pragma once

#include <memory>
#include <vector>

#include "bench/contender.h"
#include "bench/tensors.h"

namespace qkv::bench {

std::vector<Candidate> cpu_candidates(const std::shared_ptr<const Tensors>& tensors);

// One run of the tile products alone. For the acceptance run too.
std::unique_ptr<Contender> make_tile_products(std::shared_ptr<const Tensors> tensors);
std::unique_ptr<Contender> make_cpu_qkv(std::shared_ptr<const Tensors> tensors);
std::unique_ptr<Contender> make_cpu_unfused(std::shared_ptr<const Tensors> tensors);

}  // namespace qkv::bench
