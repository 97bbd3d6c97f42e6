// How long a launch of attention tiles would take, in cycles, without running it: what a plan
// compares tile policies, packing and splits by. Pure arithmetic over published rates and what an
// H100 measured; where a number is neither, it is called an estimate. It ranks candidates of one
// problem on one device; its cycles are no promise (estimate.h makes a time of them, and knows by
// how much it errs).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "host/core/device.h"
#include "host/ops/attention/problem.h"
#include "kernels/core/scheduler.h"

namespace qkv::host::attention {

// Of one multiprocessor, in its cycles.
struct DeviceRates {
  double mma;         // multiply-adds of mma.sync on fp16 and bf16, summed in fp32, a cycle
  double hbm;         // this one's share of what device memory gives, bytes a cycle
  double latency;     // from the issue of a tile's copy from device memory to its arrival
  double l2_latency;  // the same from the L2 cache
};

DeviceRates device_rates(const DeviceInfo& device);

// Measured on an H100 at 1.98 GHz
// (bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-micro.jsonl): a copy of 16 KiB from device
// memory took 1033 cycles, from L2 515; all multiprocessors together read 3.06 to 3.14 TB/s of
// the 3.35 that clock and width give. Memories differ less in nanoseconds than in cycles: taken for
// all devices (estimate).
inline constexpr double kMemoryNanoseconds = 520;
inline constexpr double kL2Nanoseconds = 260;
inline constexpr double kMemoryShare = 0.92;

// A multiprocessor's share of the L2 cache's rate, bytes a cycle. The same card: 30 where all read
// different tiles, 48 where they read the same in step, as the tiles of a set do.
inline constexpr double kL2Bytes = 48;

// A multiprocessor's pipes: CUDA C++ programming guide, throughput of instructions; 16 exponentials
// a cycle were measured as well.
inline constexpr double kCopyBytes = 64;     // what it can take in, a cycle
inline constexpr double kSmemBytes = 128;    // shared memory, a cycle
inline constexpr double kExponentials = 16;  // a cycle

// Estimates.
inline constexpr double kDefaultMhz = 1700;       // of a device that does not say
inline constexpr double kBlockCycles = 2000;      // a block's launch, first copies and last stores
inline constexpr double kEmptyBlockCycles = 500;  // a block whose split has no keys
inline constexpr double kCombineCycles = 4000;    // launch of combine behind the splits, drain
inline constexpr int32_t kCombineResident = 16;   // blocks of combine on a multiprocessor
inline constexpr int32_t kModelSplits = 128;      // the model looks no further

// How many times faster splits must be predicted than no splits, since their partial results take
// workspace and the prediction is no better than that: a placement block by block takes up to 1.3
// times as long, and on an H100 two splits of 8 batches of 16384 keys, predicted 1.158 times as
// fast as one, took 2 % longer (bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-variants.json,
// hypot).
inline constexpr double kSplitGain = 1.16;

// What a kernel does for one block of keys.
struct StepCost {
  double busy;  // cycles of the unit that has the most to do: what many blocks share
  double lone;  // cycles when nothing else runs on the multiprocessor
};

// A kernel like sm80_forward, K and V in 16 bits. With one stage of them V is copied during Q K^T,
// K during softmax and P V; with two both during the whole step before. `smem_bytes` is what the
// tensor cores read, `rules` whether scores are changed one by one.
StepCost mma_step(const DeviceRates& rates, int32_t tile_q, int32_t tile_kv, int32_t stages,
                  int32_t dim, double smem_bytes, bool rules);

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
  // Of the blocks that the device could hold, those that are there and have keys: its waves' mean.
  double slots_filled = 0;
  int32_t splits = 1;
  bool by_memory = false;  // device memory takes longer than the multiprocessors

  // What predictions are compared by.
  double cost() const { return splits > 1 ? kSplitGain * cycles : cycles; }
};

// One candidate: `resident` blocks fit on a multiprocessor, or a block, which may be a cluster,
// takes several.
struct Candidate {
  StepCost step;
  int32_t resident = 1;
  int32_t multiprocessors = 1;  // of a block

  // Multiprocessors of the device, or groups of them, that take blocks.
  double places(const DeviceInfo& device) const {
    const int32_t whole = device.sm_count / multiprocessors;
    return whole;
  }
};

// The tiles alone, placed on multiprocessors; schedule.splits and schedule.split_keys as they are.
Prediction makespan(const DeviceInfo& device, const Candidate& candidate,
                    const kernels::TileSchedule& schedule, const TileLoads& loads);

// With device memory, by the root of both times' squares, and combine behind the splits.
Prediction predict(const Problem& problem, const DeviceInfo& device, const Candidate& candidate,
                   const kernels::TileSchedule& schedule, const TileLoads& loads);

// The number of even splits from 1 to `most` of least cost; the fewest of equally good ones.
Prediction best_splits(const Problem& problem, const DeviceInfo& device, const Candidate& candidate,
                       const kernels::TileSchedule& schedule, int32_t most);

}  // namespace qkv::host::attention
