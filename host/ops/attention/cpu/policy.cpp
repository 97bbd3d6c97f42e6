#include <algorithm>
#include <cstddef>

#include "host/core/cpu/targets.h"
#include "host/core/cpu/threads.h"
#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/few_rows.h"
#include "host/ops/attention/cpu/parts.h"
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

// Whether the heads of a key follow each other in memory, as in [batch, seq, heads, dim].
bool heads_interleaved(const host::View& x) {
  return x.shape[1] > 1 && x.stride[1] == x.shape[3] && x.stride[2] >= x.shape[1] * x.shape[3];
}

// How many heads of a group share a tile, so that their keys are read once: as many as make a tile
// that a few queries of one head would not fill. A divisor of the group, or, where keys' heads are
// interleaved, several groups of few rows: memory is then read in its order.
int64_t choose_heads(const host::attention::Problem& p) {
  if (p.fixed_split_size > 0 || p.weights.present() || p.score == QKV_SCORE_ADDITIVE) return 1;
  const int64_t group = p.heads_q / p.heads_kv;
  const int64_t widest = std::max({p.d_qk, p.d_v, kWideDim});
  const int64_t rows = std::max<int64_t>(kMinTileQ * kWideDim / widest, 8);
  int64_t heads = std::min(group, rows / p.s_q);
  while (heads > 1 && group % heads != 0) --heads;
  heads = std::max<int64_t>(heads, 1);
  if (heads < group || !heads_interleaved(p.k) || !heads_interleaved(p.v)) return heads;
  const int64_t most = kFewRows * kWideDim / widest;  // rows
  int64_t groups = std::clamp<int64_t>(most / (group * p.s_q), 1, p.heads_kv);
  while (p.heads_kv % groups != 0) --groups;
  return groups * group;
}

int64_t tile_rows(const host::attention::Problem& p, int64_t heads) {
  return heads > 1 ? heads * p.s_q : choose_tile_q(p);
}

// Where tiles are few, their keys are cut: into parts of kMinPart keys or more, fewer of several
// heads' keys, for as many tasks as processors may be there to take.
constexpr int64_t kMinPart = 1024;
constexpr int64_t kManyTasks = 64;

int64_t choose_parts(const host::attention::Problem& p, int64_t tiles, int64_t heads) {
  if (p.fixed_split_size > 0 || p.weights.present() || tiles >= kEnoughTasks) return 1;
  int64_t keys = p.s_kv;
  if (p.left < keys && p.right < keys) keys = std::min(keys, p.left + p.right + p.s_q);
  const int64_t heads_kv = std::max<int64_t>(heads * p.heads_kv / p.heads_q, 1);
  const int64_t least = std::max(kMinPart / heads_kv, kMaxTileKv);
  return std::max<int64_t>(1, std::min(keys / least, kManyTasks / tiles));
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
double work(const host::attention::Problem& p, int64_t tile_q, int64_t tile_heads) {
  constexpr double kScore = 32;  // of a pair: mask, exponential, sum
  constexpr double kTanh = 4;    // of a dim: 8.2 a nanosecond on two such cores, at d 128
  constexpr double kRead = 16;   // of an element of K or V, once for each tile of queries
  const double dims = static_cast<double>(p.d_qk + p.d_v);
  const double product = p.score == QKV_SCORE_ADDITIVE
                             ? kTanh * static_cast<double>(p.d_qk) + static_cast<double>(p.d_v)
                             : dims;
  const double window = static_cast<double>(p.left) + static_cast<double>(p.right) + 1;
  const auto seen = [&](int64_t rows) {
    return std::min(static_cast<double>(p.s_kv), window + static_cast<double>(rows - 1));
  };
  const double heads = static_cast<double>(p.batch) * static_cast<double>(p.heads_q);
  const int64_t sharing = std::min(tile_heads, p.heads_q / p.heads_kv);
  const double reads = static_cast<double>(tiles(p.s_q, tile_q)) / static_cast<double>(sharing);
  return heads * (static_cast<double>(p.s_q) * seen(1) * (product + kScore) +
                  reads * seen(tile_q / tile_heads) * dims * kRead);
}

}  // namespace

int32_t useful_threads(const host::attention::Problem& p, int32_t threads) {
  if (p.empty()) return 1;
  const int64_t heads = choose_heads(p);
  return useful_threads(work(p, tile_rows(p, heads), heads), threads);
}

Policy select_policy(const host::attention::Problem& p, int32_t threads) {
  Policy policy;
  if (p.empty()) return policy;
  const int64_t heads = choose_heads(p), tile_q = tile_rows(p, heads);
  policy.tile_q = static_cast<int32_t>(tile_q);
  policy.tile_kv = static_cast<int32_t>(choose_tile_kv(p));
  policy.heads = static_cast<int32_t>(heads);
  policy.few_rows = tile_q <= kFewRows && p.fixed_split_size == 0 && p.score == QKV_SCORE_DOT;
  policy.tiles = p.batch * p.heads_q / heads * tiles(p.s_q, tile_q);
  policy.parts = static_cast<int32_t>(choose_parts(p, policy.tiles, heads));
  policy.tasks = policy.tiles * policy.parts;
  policy.threads = static_cast<int32_t>(std::clamp<int64_t>(threads, 1, policy.tasks));
  policy.thread_bytes = carve(nullptr, p, policy).bytes;
  policy.workspace_bytes = static_cast<size_t>(policy.threads) * policy.thread_bytes;
  if (policy.parts > 1)
    policy.workspace_bytes += static_cast<size_t>(policy.tasks) * part_bytes(p, tile_q);
  return policy;
}

}  // namespace qkv::cpu
