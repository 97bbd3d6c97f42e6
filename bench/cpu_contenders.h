// The implementations on the CPU, timed by wall clock on all cores.
#pragma once

#include <memory>
#include <vector>

#include "bench/contender.h"
#include "bench/tensors.h"

namespace qkv::bench {

// qkv through its C ABI.
std::unique_ptr<Contender> make_cpu_qkv(const std::shared_ptr<const Tensors>& tensors);

// OpenBLAS products with softmax between them; only in programs that link OpenBLAS.
std::unique_ptr<Contender> make_cpu_unfused(const std::shared_ptr<const Tensors>& tensors);

// oneDNN's products of the tiles that qkv's plan cuts, and nothing else.
std::unique_ptr<Contender> make_tile_products(const std::shared_ptr<const Tensors>& tensors);

// All of them. Without tensors: names only, not to be made.
std::vector<Candidate> cpu_candidates(const Spec& spec,
                                      const std::shared_ptr<const Tensors>& tensors);

}  // namespace qkv::bench
