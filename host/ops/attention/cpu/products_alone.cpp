#include <atomic>
#include <cstring>

#include "host/core/cpu/onednn.h"
#include "host/ops/attention/cpu/few_rows.h"
#include "host/ops/attention/cpu/scratch.h"
#include "host/ops/attention/cpu/tile_products.h"
#include "host/ops/attention/cpu/tiles.h"

namespace qkv::cpu {
namespace {

// Zeros times the problem's own keys and values: what is read is the same.
void run_few_rows(const host::attention::Problem& p, const QueryTile& q, const KeyTile& tile,
                  const Scratch& scratch) {
  few_scores(static_cast<const float*>(scratch.q), q.rows, score_width(p, true),
             rows_of(p.k, q, tile), scratch.s, tile.width);
  if (p.selection != QKV_SELECT_SOFT) return;
  few_values(scratch.s, q.rows, tile.width, rows_of(p.v, q, tile), scratch.o);
}

}  // namespace

double run_products_alone(const host::attention::Problem& p, const Policy& policy,
                          const TileProducts& products, void* workspace) {
  if (policy.tasks == 0 || p.s_kv == 0) return 0;
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
    auto* base = static_cast<std::byte*>(workspace) + thread * policy.thread_bytes;
    const Scratch scratch = carve(base, p, policy);
    const void* probabilities =
        shape.bf16 ? static_cast<const void*>(scratch.p16) : static_cast<const void*>(scratch.s);
    for (int64_t task = next++; task < policy.tasks && !failed; task = next++) {
      const QueryTile q = query_tile(p, policy, task / policy.parts);
      const host::attention::KeyRange seen =
          part_of(visible_keys(p, q), policy, task % policy.parts);
      for (int64_t j = seen.begin; j < seen.end;) {
        const KeyTile tile = key_tile(j, seen.end, policy.tile_kv);
        if (policy.few_rows) run_few_rows(p, q, tile, scratch);
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
  const bool soft = p.selection == QKV_SELECT_SOFT;
  const int64_t depth = policy.few_rows
                            ? p.d_qk + (soft ? p.d_v : 0)
                            : (shape.scores ? shape.d_qk : 0) + (shape.values ? shape.d_v : 0);
  return 2.0 * static_cast<double>(columns) * static_cast<double>(policy.tile_q * depth);
}

}  // namespace qkv::cpu
