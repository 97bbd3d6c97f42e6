// The CPU backend: the whole contract on host memory, one (batch, head, query tile) per OpenMP
// task, blocked online softmax over key tiles. The two tile products are oneDNN's, the softmax
// Highway's. Heads that share keys share a tile where their queries are few; few rows have products
// of their own (few_rows.h); where tiles are few, their keys are cut into parts, one task each,
// whose results are merged in the order of the keys (parts.h).
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
  int32_t tile_q = 0;  // rows of a tile of queries
  int32_t tile_kv = 0;
  int32_t heads = 1;      // of a group, whose queries are rows of one tile
  int32_t parts = 1;      // that the keys are cut into, each a task
  bool few_rows = false;  // so few rows that products of their own serve them
  int64_t tiles = 0;      // of queries: batch * heads_q / heads * tiles of a head
  int64_t tasks = 0;      // tiles * parts
  int32_t threads = 0;
  size_t thread_bytes = 0;     // of the workspace, for each thread
  size_t workspace_bytes = 0;  // all threads together, and what the parts leave behind
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
