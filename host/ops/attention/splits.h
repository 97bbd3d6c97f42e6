// What the kernels that pack heads and split keys have in common: choosing among tiles, packing and
// splits, and combine behind the splits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "host/ops/attention/cuda/common.h"
#include "host/ops/attention/wave_model.h"
#include "kernels/core/scheduler.h"

namespace qkv::host::attention {

struct SplitPlan : TilePlan {
  kernels::TileSchedule schedule;
  Prediction predicted;
  bool combines_early = false;  // combine begins while the last splits end

  std::string text() const override;
};

// A tile policy that may run a problem, and what the wave model has to know of it.
struct TileChoice {
  int32_t tile_q, tile_kv;
  Candidate candidate;
};

// The grid of such tiles before keys are split; `group` query heads of a KV head share a tile.
kernels::TileSchedule schedule_of(const Problem& p, int32_t tile_q, int32_t tile_kv, int32_t group);

// Splits of the size that the problem asks for; 1 if it asks for none.
int64_t fixed_splits(const Problem& p, int32_t tile_kv);

// What is wrong with that number of splits, whose partial rows combine has to take.
std::string decline_splits(const Problem& p, int32_t tile_kv);

// For kernels without splits: why they do not stand in for one with splits that declines a problem
// for the number of these alone. Their sums are ordered otherwise, and fixed_split_size promises
// the same bits however long K is.
std::string decline_instead_of_splits(const Problem& p, const DeviceInfo& device);

// Weighs all choices, each with heads apart and, if `can_pack`, with all query heads of a KV head
// in a tile, each with every number of splits (or the problem's own split size). The best one's
// tiles, schedule, prediction and room for partial results go into the plan; returns its place.
size_t choose_cut(const Problem& p, const DeviceInfo& device, std::span<const TileChoice> choices,
                  bool can_pack, SplitPlan* plan);

// Bytes of workspace for the splits' results; 0 where there is one split.
int64_t partial_bytes(const Problem& p, const SplitPlan& plan);

// Whether the heads of a group lie in one box of TMA: a warp's 16 rows hold whole queries.
bool can_pack_boxes(const Problem& p);

// What the wave model sees of hard and top-k selection: V is read in the chosen rows alone and
// splits leave keys; no bit of the result depends on the splits, whatever size the caller wishes
// them to have.
Problem without_v(const Problem& p);

// For builds with CUDA.
// Where the splits' results are; null where there is one split.
kernels::Partials partials_of(const Problem& p, const SplitPlan& plan, void* workspace);
// Loads combine where the plan needs it.
Status load_combine(const Problem& p, const SplitPlan& plan, const CudaRuntime& cuda);
// Queues combine behind the forward kernel whose launch returned `launched`, where the plan needs
// it. Returns the first cudaError_t.
int combine(int launched, const Problem& p, const SplitPlan& plan, const kernels::ForwardArgs& args,
            const kernels::Partials& partials, void* stream);

}  // namespace qkv::host::attention
