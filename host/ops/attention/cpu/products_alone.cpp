#include <atomic>
#include <cstring>

#include "host/core/cpu/onednn.h"
#include "host/ops/attention/cpu/scratch.h"
#include "host/ops/attention/cpu/tile_products.h"
#include "host/ops/attention/cpu/tiles.h"

namespace qkv::cpu {

double run_products_alone(const host::attention::Problem& p, const Policy& policy,
                          const TileProducts& products, void* workspace) {
  if (policy.tasks == 0 || p.s_kv == 0) return 0;
  const size_t bytes = policy.workspace_bytes / static_cast<size_t>(policy.threads);
  std::memset(workspace, 0, policy.workspace_bytes);  // numbers that no operation slows down on
  const ProductShape& shape = products.shape();
  std::atomic<int64_t> next{0}, columns{0};
  std::atomic<size_t> entered{0};
  std::atomic<bool> failed{false};
#pragma omp parallel num_threads(policy.threads)
  {
    const OneThread one_thread;  // as attention's run has it
    const size_t thread = entered++;
    const auto lane = products.borrow();
    if (!lane) failed = true;
    auto* base = static_cast<std::byte*>(workspace) + thread * bytes;
    const Scratch scratch = carve(base, p, policy.tile_q, policy.tile_kv);
    const void* probabilities =
        shape.bf16 ? static_cast<const void*>(scratch.p16) : static_cast<const void*>(scratch.s);
    for (int64_t task = next++; task < policy.tasks && !failed; task = next++) {
      const QueryTile q = query_tile(p, policy.tile_q, task);
      const host::attention::KeyRange seen = visible_keys(p, q);
      for (int64_t j = seen.begin; j < seen.end;) {
        const KeyTile tile = key_tile(j, seen.end, policy.tile_kv);
        const bool done = (!shape.scores || products.scores(*lane, tile.width, scratch.q, scratch.k,
                                                            scratch.s, scratch.product)) &&
                          (!shape.values || products.values(*lane, tile.width, probabilities,
                                                            scratch.v, scratch.o, scratch.product));
        if (!done) failed = true;
        columns += tile.width;
        j += tile.width;
      }
    }
  }
  if (failed) return 0;
  const int64_t depth = (shape.scores ? shape.d_qk : 0) + (shape.values ? shape.d_v : 0);
  return 2.0 * static_cast<double>(columns) * static_cast<double>(policy.tile_q * depth);
}

}  // namespace qkv::cpu
