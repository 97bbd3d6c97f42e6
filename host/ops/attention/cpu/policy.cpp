#include <algorithm>
#include <cstddef>

#include "host/core/cpu/targets.h"
#include "host/core/cpu/threads.h"
#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/scratch.h"

namespace qkv::cpu {
namespace {

// Measured with two cores of an AMD EPYC (Zen 4, 1 MiB of L2 cache), d 128, S 2048, in per cent of
// the rate of the two products alone: 256 x 256 gives 91 in fp32 and 83 in bf16, 128 x 512 gives 89
// and 82, 128 x 128 gives 86 and 79. K and V come from the L3 cache once for each tile of queries.
constexpr int64_t kMaxTileQ = 256;
constexpr int64_t kMaxTileQWindowed = 128;  // less is computed in vain at the window's edges
constexpr int64_t kMinTileQ = 64;           // what few tasks may split down to
constexpr int64_t kEnoughTasks = 16;  // of any shape: results must not depend on the thread count
constexpr int64_t kWideDim = 512;     // above it, tiles shrink so that scratch stays small

int64_t tiles(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

// Query tiles of equal height, so that the last one wastes little.
int64_t even_tile(int64_t s_q, int64_t limit) {
  const int64_t even = tiles(s_q, tiles(s_q, limit));
  return even <= 8 ? even : std::min(limit, round_up(even, 8));
}

// With a fixed split size tiles depend on it and on dims alone: a row's result then depends on
// nothing beside it.
int64_t choose_tile_q(const host::attention::Problem& p) {
  if (p.fixed_split_size > 0) return kMinTileQ;
  const int64_t widest = std::max({p.d_qk, p.d_v, kWideDim});
  const int64_t tallest = p.windowed() ? kMaxTileQWindowed : kMaxTileQ;
  int64_t limit = std::max<int64_t>(tallest * kWideDim / widest, 8);
  const double heads = static_cast<double>(p.batch) * static_cast<double>(p.heads_q);
  while (limit > kMinTileQ && heads * static_cast<double>(tiles(p.s_q, limit)) < kEnoughTasks)
    limit /= 2;
  return even_tile(p.s_q, limit);
}

// A power of two, so that tiles of all sequences are made of few widths.
int64_t choose_tile_kv(const host::attention::Problem& p) {
  const int64_t widest = std::max({p.d_qk, p.d_v, kWideDim});
  int64_t tile = kMaxTileKv;
  while (tile > kLanes && tile * widest > kMaxTileKv * kWideDim) tile /= 2;
  const int64_t most = p.fixed_split_size > 0 ? p.fixed_split_size : p.s_kv;
  while (tile > kTailKeys && tile > most) tile /= 2;
  return tile;
}

// What a problem costs, in multiply-adds of a tile product: 30 us a million on one core of an AMD
// EPYC (Zen, AVX2, fp32), where 16 problems of 1 to 128 queries, 64 to 512 keys and 2 to 64 heads
// took 24 to 34. Few queries pay for reading K and V instead.
double work(const host::attention::Problem& p, int64_t tile_q) {
  constexpr double kScore = 32;  // of a pair: mask, exponential, sum
  constexpr double kTanh = 16;
  constexpr double kRead = 16;  // of an element of K or V, once for each tile of queries
  const double dims = static_cast<double>(p.d_qk + p.d_v);
  const double product = p.score == QKV_SCORE_ADDITIVE
                             ? kTanh * static_cast<double>(p.d_qk) + static_cast<double>(p.d_v)
                             : dims;
  const double window = static_cast<double>(p.left) + static_cast<double>(p.right) + 1;
  const auto seen = [&](int64_t rows) {
    return std::min(static_cast<double>(p.s_kv), window + static_cast<double>(rows - 1));
  };
  const double heads = static_cast<double>(p.batch) * static_cast<double>(p.heads_q);
  return heads * (static_cast<double>(p.s_q) * seen(1) * (product + kScore) +
                  static_cast<double>(tiles(p.s_q, tile_q)) * seen(tile_q) * dims * kRead);
}

}  // namespace

int32_t useful_threads(const host::attention::Problem& p, int32_t threads) {
  return p.empty() ? 1 : useful_threads(work(p, choose_tile_q(p)), threads);
}

Policy select_policy(const host::attention::Problem& p, int32_t threads) {
  Policy policy;
  if (p.empty()) return policy;
  const int64_t tile_q = choose_tile_q(p), tile_kv = choose_tile_kv(p);
  policy.tile_q = static_cast<int32_t>(tile_q);
  policy.tile_kv = static_cast<int32_t>(tile_kv);
  policy.tasks = p.batch * p.heads_q * tiles(p.s_q, tile_q);
  policy.threads = static_cast<int32_t>(std::clamp<int64_t>(threads, 1, policy.tasks));
  policy.workspace_bytes =
      static_cast<size_t>(policy.threads) * carve(nullptr, p, tile_q, tile_kv).bytes;
  return policy;
}

}  // namespace qkv::cpu
