#include <algorithm>
#include <cstddef>

#include "host/cpu/attention.h"
#include "host/cpu/scratch.h"
#include "host/cpu/targets.h"

namespace qkv::cpu {
namespace {

constexpr int64_t kMaxTileQ = 128;
constexpr int64_t kMaxTileKv = 512;
constexpr int64_t kMinTileQ = 32;      // what few tasks may split down to
constexpr int64_t kEnoughTasks = 16;   // of any shape: results must not depend on the thread count
constexpr int64_t kWideDim = 512;      // above it, tiles shrink so that scratch stays small

int64_t tiles(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

// Query tiles of equal height, so that the last one wastes little.
int64_t even_tile(int64_t s_q, int64_t limit) {
  const int64_t even = tiles(s_q, tiles(s_q, limit));
  return even <= 8 ? even : std::min(limit, round_up(even, 8));
}

int64_t choose_tile_q(const host::Problem& p) {
  const int64_t widest = std::max({p.d_qk, p.d_v, kWideDim});
  int64_t limit = std::max<int64_t>(kMaxTileQ * kWideDim / widest, 8);
  while (limit > kMinTileQ && p.batch * p.heads_q * tiles(p.s_q, limit) < kEnoughTasks) limit /= 2;
  return even_tile(p.s_q, limit);
}

int64_t choose_tile_kv(const host::Problem& p) {
  const int64_t widest = std::max({p.d_qk, p.d_v, kWideDim});
  const int64_t limit = std::max(kMaxTileKv * kWideDim / widest / kLanes * kLanes, kLanes);
  if (limit <= kTailKeys) return limit;
  return std::max(std::min(limit, p.s_kv) / kTailKeys * kTailKeys, kTailKeys);
}

}  // namespace

Policy select_policy(const host::Problem& p, int32_t threads) {
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
