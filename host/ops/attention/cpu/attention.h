// The CPU backend: the whole contract on host memory, one (batch, head, query tile) per OpenMP
// task, blocked online softmax over key tiles. The two tile products are oneDNN's, the softmax
// Highway's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "host/core/status.h"
#include "host/ops/attention/problem.h"

namespace qkv::cpu {

// Changes speed, never the contract. A pure function of the problem's shape and the number of
// threads.
struct Policy {
  int32_t tile_q = 0;
  int32_t tile_kv = 0;
  int32_t threads = 0;
  int64_t tasks = 0;           // batch * heads_q * query tiles
  size_t workspace_bytes = 0;  // all threads together
};

// As many of `threads` as the problem has work for; 1 where it is small.
int32_t useful_threads(const host::attention::Problem& problem, int32_t threads);

// For at most so many threads.
Policy select_policy(const host::attention::Problem& problem, int32_t threads);

// The tile products that a policy needs, made once (oneDNN generates code) and used by many runs at
// a time.
class TileProducts;

host::Status prepare(const host::attention::Problem& problem, const Policy& policy,
                     std::shared_ptr<const TileProducts>* products);

// Computes the problem, on fewer threads than the policy's where OpenMP or the problem allow no
// more now. `workspace` has policy.workspace_bytes, 256-byte aligned; nothing else is allocated.
host::Status run(const host::attention::Problem& problem, const Policy& policy,
                 const TileProducts& products, void* workspace);

}  // namespace qkv::cpu
