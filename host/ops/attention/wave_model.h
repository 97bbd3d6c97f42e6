// How long a launch of attention tiles would take, in cycles, without running it: what a plan
// compares tile policies, packing and splits by. Pure arithmetic; its constants are derived from
// the devices' published rates and untimed. It ranks candidates of one problem on one device; its
// cycles are no promise.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "host/core/device.h"
#include "host/ops/attention/problem.h"
#include "kernels/core/scheduler.h"

namespace qkv::host::attention {

// Of one multiprocessor, for each cycle.
struct DeviceRates {
  double mma;  // multiply-adds of mma.sync on fp16 and bf16, summed in fp32
  double hbm;  // this one's share of device memory, in bytes
};

DeviceRates device_rates(const DeviceInfo& device);

inline constexpr double kL2Bytes = 48;            // a multiprocessor's share of the L2 cache's rate
inline constexpr double kCopyBytes = 64;          // what one multiprocessor can take in
inline constexpr double kSmemBytes = 128;         // shared memory, a cycle
inline constexpr double kExponentials = 16;       // a cycle
inline constexpr double kLatency = 700;           // of a copy from L2 or device memory
inline constexpr double kBlockCycles = 2000;      // a block's launch, first copies and last stores
inline constexpr double kEmptyBlockCycles = 500;  // a block whose split has no keys
inline constexpr double kCombineCycles = 4000;    // launch of combine behind the splits, drain
inline constexpr int32_t kCombineResident = 16;   // blocks of combine on a multiprocessor
inline constexpr int32_t kModelSplits = 128;      // the model looks no further

// How many times faster splits must be predicted than no splits, since their partial results take
// workspace and the prediction is no better than that (a placement block by block takes up to 1.3
// times as long; the constants are untimed). Splits win at 4484 prefills of 12312 shapes of width
// 128 on sm_80, 89 and 90; at 1047 of them by less than this, with up to 462 MB of workspace.
inline constexpr double kSplitGain = 1.15;

// What a kernel does for one block of keys.
struct StepCost {
  double busy;  // cycles of the unit that has the most to do: what many blocks share
  double lone;  // cycles when nothing else runs on the multiprocessor
};

// A kernel like sm80_forward: one stage each of K and V in 16 bits; V is copied during Q K^T, K
// during softmax and P V. `smem_bytes` is what the tensor cores read, `rules` whether scores are
// changed one by one.
StepCost mma_step(const DeviceRates& rates, int32_t tile_q, int32_t tile_kv, int32_t dim,
                  double smem_bytes, bool rules);

// Tiles of about equal numbers of key blocks.
struct TileLoads {
  struct Class {
    double tiles;
    int32_t steps;
  };
  static constexpr size_t kClasses = 8;
  std::array<Class, kClasses> classes{};  // most steps first
  size_t count = 0;
};

// All tiles of a problem; lengths that only the device knows count as s_kv.
TileLoads tile_loads(const Problem& problem, const kernels::TileSchedule& schedule);

struct Prediction {
  double cycles = 0;
  double waves = 0;  // blocks over those that the device holds at a time
  int32_t splits = 1;

  // What predictions are compared by.
  double cost() const { return splits > 1 ? kSplitGain * cycles : cycles; }
};

// One candidate: `resident` blocks fit on a multiprocessor.
struct Candidate {
  StepCost step;
  int32_t resident = 1;
};

// The tiles alone, placed on multiprocessors; schedule.splits and schedule.split_keys as they are.
Prediction makespan(const DeviceInfo& device, const Candidate& candidate,
                    const kernels::TileSchedule& schedule, const TileLoads& loads);

// With device memory, which may hold all of them up, and combine behind the splits.
Prediction predict(const Problem& problem, const DeviceInfo& device, const Candidate& candidate,
                   const kernels::TileSchedule& schedule, const TileLoads& loads);

// The number of even splits from 1 to `most` of least cost; the fewest of equally good ones.
Prediction best_splits(const Problem& problem, const DeviceInfo& device, const Candidate& candidate,
                       const kernels::TileSchedule& schedule, int32_t most);

}  // namespace qkv::host::attention
