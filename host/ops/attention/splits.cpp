#include "host/ops/attention/splits.h"

#include <algorithm>
#include <cmath>

#include "host/core/disable.h"
#include "host/core/plan.h"
#include "host/ops/attention/op.h"
#include "kernels/attention/combine/launch.h"
#include "kernels/attention/combine/policy.h"
#include "kernels/core/grid.h"

namespace qkv::host::attention {
namespace {

// Keys of a split of the size asked for, in whole tiles. Kernels decline by it before they decline
// lengths beyond 32 bits: it is right for every length.
int64_t split_keys(const Problem& p, int64_t tile) {
  return (std::min(p.fixed_split_size, std::max(p.s_kv, tile)) + tile - 1) / tile * tile;
}

// Sets of rows whose tiles are computed side by side, longest first (kernels/core/scheduler.h).
// Where all tiles see as many keys, one set after the other: its tiles read K and V at the same
// time, from memory once. Where they do not, as many sets as fill the device with their tiles, so
// that long and short ones pair up; at most as many as keep K and V in half of the L2 cache.
//
// On an H100, bf16, d128, TFLOP/s by the sets of a section
// (bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-variants.json); "L2" is as many as half of
// it holds:
//
//                       L2      1      2      4      8     16     33
//   full, s 512        390    428    426    423    425    423    424
//   full, s 1024       520    563    556    555    554    552    549
//   causal, s 512      250    244    249    250    259    264    273
//   causal, s 2048     495    519    525    529    533    525    520
//   causal, s 4096     594    581    587    604    600    595    579
int32_t sets_of_section(const Problem& p, const DeviceInfo& device,
                        const kernels::TileSchedule& schedule) {
  if (!p.windowed()) return 1;
  const int64_t set = p.s_kv * (p.d_qk + p.d_v) * type_size(p.type);
  const int64_t fit = set == 0 ? schedule.sets : device.l2_bytes / 2 / set;
  const int64_t sharing = schedule.kv_ratio / static_cast<int32_t>(schedule.group.divisor);
  const int64_t wave = device.sm_count / std::max(schedule.tiles, 1);
  return static_cast<int32_t>(
      std::clamp<int64_t>(std::min(fit * sharing, wave), 1, std::max(schedule.sets, 1)));
}

// Cuts the keys as the problem asks for, else as the wave model likes it best.
Prediction choose_splits(const Problem& p, const DeviceInfo& device, const Candidate& candidate,
                         kernels::TileSchedule* schedule) {
  if (p.fixed_split_size > 0) {
    schedule->splits = static_cast<int32_t>(fixed_splits(p, schedule->tile_kv));
    schedule->split_keys = static_cast<int32_t>(split_keys(p, schedule->tile_kv));
    return predict(p, device, candidate, *schedule, tile_loads(p, *schedule));
  }
  const int64_t grid = kernels::kMaxBlocks / std::max<int64_t>(schedule->blocks(), 1);
  const bool can_combine = p.batch * p.heads_q * p.s_q <= kernels::kMaxBlocks;
  const Prediction prediction =
      best_splits(p, device, candidate, *schedule,
                  can_combine ? static_cast<int32_t>(std::min<int64_t>(grid, kModelSplits)) : 1);
  schedule->splits = prediction.splits;
  return prediction;
}

// Where device memory takes longer than computing, a shorter tile must be predicted to take this
// share of a taller one's time: the taller one reads K and V less often.
constexpr double kShorterTileGain = 0.95;

// Rows of O that combine puts together.
int64_t rows_of(const Problem& p) { return p.batch * p.heads_q * p.s_q; }

}  // namespace

std::string SplitPlan::text() const {
  if (!(predicted.cycles > 0)) return TilePlan::text();
  std::string cut = schedule.group.divisor == 1
                        ? std::string("heads apart")
                        : host::text(schedule.group.divisor, " heads packed into a tile");
  cut += host::text(", ", schedule.splits, schedule.splits == 1 ? " split" : " splits");
  if (schedule.split_keys > 0) cut += host::text(" of ", schedule.split_keys, " keys");
  const auto tenths = std::llround(predicted.waves * 10);
  return TilePlan::text() + text_line("cut", cut, "; predicted ", tenths / 10, ".", tenths % 10,
                                      " waves, ", std::llround(100 * predicted.slots_filled),
                                      " % of all slots, ", std::llround(predicted.cycles),
                                      " cycles");
}

kernels::TileSchedule schedule_of(const Problem& p, int32_t tile_q, int32_t tile_kv,
                                  int32_t group) {
  return kernels::tile_schedule(tile_q, tile_kv, static_cast<int32_t>(p.batch),
                                static_cast<int32_t>(p.heads_q), static_cast<int32_t>(p.heads_kv),
                                static_cast<int32_t>(p.s_q), group);
}

int64_t fixed_splits(const Problem& p, int32_t tile_kv) {
  if (p.fixed_split_size == 0 || p.s_kv == 0) return 1;
  const int64_t keys = split_keys(p, tile_kv);
  return (p.s_kv + keys - 1) / keys;
}

std::string decline_splits(const Problem& p, int32_t tile_kv) {
  const int64_t splits = fixed_splits(p, tile_kv);
  if (splits > kernels::kMaxSplits)
    return text("takes up to ", kernels::kMaxSplits, " splits, fixed_split_size ",
                p.fixed_split_size, " makes ", splits);
  if (splits > 1 && p.batch * p.heads_q * p.s_q > kernels::kMaxBlocks)
    return "has more than 2^31 - 1 rows to combine";
  return {};
}

std::string decline_instead_of_splits(const Problem& p, const DeviceInfo& device) {
  if (p.fixed_split_size == 0) return {};
  Problem uncut = p;
  uncut.fixed_split_size = 0;
  for (const Kernel* kernel : {&kSm90Forward, &kSm90Wide, &kSm80Forward, &kSm80Additive}) {
    if (disabled().has(kernel->name)) continue;
    if (kernel->decline(uncut, device).empty() && !kernel->decline(p, device).empty())
      return text("gives other bits than ", kernel->name,
                  ", which takes fixed_split_size here with ", "up to ", kernels::kMaxSplits,
                  " splits");
  }
  return {};
}

size_t choose_cut(const Problem& p, const DeviceInfo& device, std::span<const TileChoice> choices,
                  bool can_pack, SplitPlan* plan) {
  const auto ratio = static_cast<int32_t>(p.heads_q / p.heads_kv);
  Prediction best;
  size_t chosen = 0;
  for (size_t n = 0; n < choices.size(); ++n) {
    const TileChoice& choice = choices[n];
    for (const int32_t group : {1, ratio}) {
      if (group > 1 && !can_pack) continue;
      auto schedule = schedule_of(p, choice.tile_q, choice.tile_kv, group);
      const Prediction prediction = choose_splits(p, device, choice.candidate, &schedule);
      const bool is_shorter = n > chosen && prediction.by_memory && best.by_memory;
      const double share = is_shorter ? kShorterTileGain : 1;
      if (best.cycles > 0 && prediction.cost() >= share * best.cost()) continue;
      best = prediction;
      chosen = n;
      schedule.section = sets_of_section(p, device, schedule);
      plan->schedule = schedule;
    }
  }
  plan->tile_q = choices[chosen].tile_q;
  plan->tile_kv = choices[chosen].tile_kv;
  plan->blocks = plan->schedule.blocks();
  plan->predicted = best;
  plan->combines_early = plan->schedule.splits > 1 && device.compute >= 90;
  plan->workspace_bytes = static_cast<size_t>(partial_bytes(p, *plan));
  return chosen;
}

int64_t partial_bytes(const Problem& p, const SplitPlan& plan) {
  const int32_t splits = plan.schedule.splits;
  return splits == 1 ? 0 : kernels::partials_bytes(splits, rows_of(p), p.d_v);
}

bool can_pack_boxes(const Problem& p) {
  constexpr int64_t kWarpRows = 16;
  const int64_t ratio = p.heads_q / p.heads_kv;
  return ratio > 1 && ratio <= kWarpRows && (ratio & (ratio - 1)) == 0 &&
         p.s_q * ratio <= INT32_MAX - 1024;
}

Problem without_v(const Problem& p) {
  Problem of_keys = p;
  of_keys.d_v = 0;
  of_keys.fixed_split_size = 0;
  return of_keys;
}

#if QKV_HAS_CUDA
kernels::Partials partials_of(const Problem& p, const SplitPlan& plan, void* workspace) {
  const int32_t splits = plan.schedule.splits;
  if (splits == 1) return {};
  return kernels::partials_in(workspace, splits, rows_of(p), p.d_v);
}

Status load_combine(const Problem& p, const SplitPlan& plan, const CudaRuntime& cuda) {
  if (plan.schedule.splits == 1) return {};
  return cuda.load("loading combine", [&] { return kernels::prepare_combine(kernel_type(p)); });
}

int combine(int launched, const Problem& p, const SplitPlan& plan, const kernels::ForwardArgs& args,
            const kernels::Partials& partials, void* stream) {
  const int32_t splits = plan.schedule.splits;
  if (launched != 0 || splits == 1) return launched;
  return kernels::launch_combine(kernel_type(p), args, splits, partials, plan.combines_early,
                                 stream);
}
#endif

}  // namespace qkv::host::attention
