#include "host/ops/attention/wave_model.h"

#include <algorithm>
#include <cmath>

namespace qkv::host::attention {
namespace {

// Blocks of one length.
struct Blocks {
  double count;
  int32_t steps;
};

constexpr size_t kLengths = 2 * TileLoads::kClasses + 1;

// The blocks that splits make of tiles, longest first, each length once. A plan is made of some
// hundred such lists, in microseconds.
struct BlockList {
  std::array<Blocks, kLengths> all;  // the first `size` of them
  size_t size = 0;

  void add(double count, int32_t steps) {
    if (count <= 0) return;
    size_t at = size;
    while (at > 0 && all[at - 1].steps < steps) --at;
    if (at > 0 && all[at - 1].steps == steps) {
      all[at - 1].count += count;
      return;
    }
    for (size_t n = size++; n > at; --n) all[n] = all[n - 1];
    all[at] = {count, steps};
  }
};

// Of numbers from 0 to 2^62; std::ceil is a call where the processor's oldest instructions are
// used.
double round_up(double x) {
  const auto whole = static_cast<double>(static_cast<int64_t>(x));
  return whole < x ? whole + 1 : whole;
}

BlockList cut(const kernels::TileSchedule& schedule, const TileLoads& loads) {
  BlockList blocks;
  double empty = 0;
  for (size_t n = 0; n < loads.count; ++n) {
    const auto [tiles, steps] = loads.classes[n];
    if (schedule.split_keys > 0) {
      const int32_t share = schedule.split_keys / schedule.tile_kv;
      const int32_t full = steps / share, rest = steps % share;
      blocks.add(tiles * full, share);
      if (rest > 0) blocks.add(tiles, rest);
      empty += tiles * std::max(schedule.splits - full - (rest > 0 ? 1 : 0), 0);
    } else {
      const int32_t share = steps / schedule.splits, longer = steps % schedule.splits;
      blocks.add(tiles * longer, share + 1);
      if (share > 0)
        blocks.add(tiles * (schedule.splits - longer), share);
      else
        empty += tiles * (schedule.splits - longer);
    }
  }
  blocks.add(empty, 0);
  return blocks;
}

double rows_of(const Problem& p) {
  return static_cast<double>(p.batch) * static_cast<double>(p.heads_q) * static_cast<double>(p.s_q);
}

// Partials are written and read through the L2 cache; a block of combine makes a trip for the LSE
// and one for each 16 of O (4 warps, 4 loads at a time), and one to store.
double combine_cycles(const Problem& p, const DeviceInfo& device, const DeviceRates& rates,
                      int32_t splits) {
  if (splits == 1) return 0;
  const double sms = device.sm_count, rows = rows_of(p);
  const double bytes = 2 * 4 * rows * splits * static_cast<double>(p.d_v + 2);
  const double rounds = round_up(rows / (sms * kCombineResident));
  const double trips = 2 + round_up(splits / 16.0);
  return kCombineCycles + std::max(bytes / (kL2Bytes * sms), rounds * trips * rates.l2_latency);
}

// Device memory gives and takes every element once at best.
double memory_cycles(const Problem& p, const DeviceInfo& device, const DeviceRates& rates) {
  const double element = static_cast<double>(type_size(p.type));
  const auto batch = static_cast<double>(p.batch), width = static_cast<double>(p.d_qk + p.d_v);
  const double kv = batch * static_cast<double>(p.heads_kv * p.s_kv) * width;
  return element * (kv + rows_of(p) * width) / (rates.hbm * device.sm_count);
}

// Computing and memory together take at least the longer one's time and at most the sum: neither
// hides the other wholly, since memory waits while blocks begin and end. Where the larger one alone
// counted, plans stopped adding splits as soon as both took as long, with half of the
// multiprocessors idle.
double together(double computing, double memory) {
  return std::sqrt(computing * computing + memory * memory);
}

// Multiply-adds of mma.sync a cycle: the data sheets' dense fp16 rate over clock and
// multiprocessors. What is left to it on sm_90 and later is the rate of sm_80 (estimate). GeForce
// cards sum fp16 in fp32 at half of the workstation cards' rate (NVIDIA's whitepapers of GA102,
// appendix A, and AD102, appendix A: RTX 3090 71 and A40 150 TFLOP/s, RTX 4090 165 and L40S 362).
double mma_rate(const DeviceInfo& device) {
  const int32_t c = device.compute;
  if (c < 86 || (c >= 90 && c < 120)) return 1024;
  return device.name.find("GeForce") == std::string::npos ? 512 : 256;
}

// Bytes of device memory for a multiprocessor's cycle where the device does not say, or says what
// no card has: a part of a card has a part of its memory. A100 80 GB, A40, L40S, H100, B200, RTX
// 5090 as in host/core/known_devices.cpp.
double memory_rate_of_class(int32_t compute) {
  if (compute < 86) return 13.4;
  if (compute < 89) return 4.8;
  if (compute < 90) return 2.4;
  if (compute < 100) return 12.8;
  if (compute < 120) return 27.5;
  return 4.4;
}

}  // namespace

DeviceRates device_rates(const DeviceInfo& device) {
  const double clock = device.clock_mhz > 0 ? device.clock_mhz : kDefaultMhz;
  const double of_class = memory_rate_of_class(device.compute);
  double memory = of_class;
  if (device.clock_mhz > 0 && device.memory_gbs > 0 && device.sm_count > 0)
    memory = 1e3 * device.memory_gbs / (clock * device.sm_count);
  if (memory > 2 * of_class) memory = of_class;
  return {mma_rate(device), kMemoryShare * memory, kMemoryNanoseconds * 1e-3 * clock,
          kL2Nanoseconds * 1e-3 * clock};
}

StepCost mma_step(const DeviceRates& rates, int32_t tile_q, int32_t tile_kv, int32_t stages,
                  int32_t dim, double smem_bytes, bool rules) {
  const double scores = static_cast<double>(tile_q) * tile_kv;
  const double product = scores * dim / rates.mma;  // Q K^T, and P V as well
  // Instructions of 128 lanes: 4.5 for a score, 10 more where rules change it, and the rescale of
  // O.
  const double issued = (scores * (rules ? 14.5 : 4.5) + static_cast<double>(tile_q) * dim) / 128;
  const double softmax = std::max(scores / kExponentials, issued);
  const double bytes = 2.0 * tile_kv * dim;  // of K, and of V as well
  const double copy = rates.latency + bytes / kCopyBytes;
  const double lone = stages == 1 ? std::max(product, copy) + std::max(softmax + product, copy)
                                  : std::max(2 * product + softmax, copy + bytes / kCopyBytes);
  return {std::max({2 * product, softmax, smem_bytes / kSmemBytes, 2 * bytes / kL2Bytes}), lone};
}

TileLoads tile_loads(const Problem& p, const kernels::TileSchedule& schedule) {
  TileLoads loads;
  const double sets = schedule.sets;
  const auto steps_of = [&](int32_t tile) {
    const int64_t row = int64_t{tile} * schedule.tile_q;
    const int64_t last = std::min<int64_t>(row + schedule.tile_q, schedule.rows) - 1;
    const int64_t begin = visible_keys(p, schedule.query(static_cast<int32_t>(row)), p.s_kv).begin;
    const int64_t end = visible_keys(p, schedule.query(static_cast<int32_t>(last)), p.s_kv).end;
    return begin >= end
               ? 0
               : static_cast<int32_t>((end - 1) / schedule.tile_kv - begin / schedule.tile_kv + 1);
  };
  const int32_t tiles = schedule.tiles;
  const auto classes =
      p.windowed() ? std::min<int32_t>(tiles, TileLoads::kClasses) : std::min<int32_t>(tiles, 1);
  for (int32_t n = 0; n < classes; ++n) {
    const auto first = static_cast<int32_t>(int64_t{tiles} * n / classes);
    const auto end = static_cast<int32_t>(int64_t{tiles} * (n + 1) / classes);
    const int32_t middle = (first + end - 1) / 2;
    const int32_t steps = p.windowed()
                              ? (steps_of(first) + 4 * steps_of(middle) + steps_of(end - 1) + 3) / 6
                              : steps_of(first);
    loads.classes[loads.count++] = {(end - first) * sets, steps};
  }
  std::sort(loads.classes.begin(), loads.classes.begin() + static_cast<int64_t>(loads.count),
            [](const auto& a, const auto& b) { return a.steps > b.steps; });
  return loads;
}

// Longest first on identical slots: at least the average; and of the longest k slots + 1 blocks
// some slot gets k + 1, none of them shorter than the last. For blocks of one length this is exact.
Prediction makespan(const DeviceInfo& device, const Candidate& candidate,
                    const kernels::TileSchedule& schedule, const TileLoads& loads) {
  const BlockList blocks = cut(schedule, loads);
  double working = 0;
  for (size_t n = 0; n < blocks.size; ++n)
    if (blocks.all[n].steps > 0) working += blocks.all[n].count;
  const double sms = candidate.places(device);
  const double side_by_side = std::clamp<double>(round_up(working / sms), 1, candidate.resident);
  const double slots = sms * side_by_side;
  const double step = std::max(candidate.step.lone, candidate.step.busy * side_by_side);

  double sum = 0, before = 0, longest = 0;
  for (size_t n = 0; n < blocks.size; ++n) {
    const auto [count, steps] = blocks.all[n];
    const double cycles = steps > 0 ? kBlockCycles + steps * step : kEmptyBlockCycles;
    sum += count * cycles;
    before += count;
    longest = std::max(longest, round_up(before / slots) * cycles);
  }
  const double all = sms * candidate.resident, waves = round_up(working / all);
  return {.cycles = std::max(sum / slots, longest),
          .waves = before / slots,
          .slots_filled = waves > 0 ? working / (waves * all) : 0,
          .splits = schedule.splits};
}

// predict() with what device memory takes, which no cut changes.
static Prediction predict_over(const DeviceRates& rates, double memory, const Problem& p,
                               const DeviceInfo& device, const Candidate& candidate,
                               const kernels::TileSchedule& schedule, const TileLoads& loads) {
  Prediction all = makespan(device, candidate, schedule, loads);
  all.by_memory = memory > all.cycles;
  all.cycles = together(all.cycles, memory) + combine_cycles(p, device, rates, schedule.splits);
  return all;
}

Prediction predict(const Problem& p, const DeviceInfo& device, const Candidate& candidate,
                   const kernels::TileSchedule& schedule, const TileLoads& loads) {
  const DeviceRates rates = device_rates(device);
  return predict_over(rates, memory_cycles(p, device, rates), p, device, candidate, schedule,
                      loads);
}

Prediction best_splits(const Problem& p, const DeviceInfo& device, const Candidate& candidate,
                       const kernels::TileSchedule& schedule, int32_t most) {
  const TileLoads loads = tile_loads(p, schedule);
  kernels::TileSchedule cut = schedule;
  cut.split_keys = 0;
  cut.splits = 1;
  const DeviceRates rates = device_rates(device);
  const double memory = memory_cycles(p, device, rates);
  Prediction best = predict_over(rates, memory, p, device, candidate, cut, loads);
  double steps = 0;
  for (size_t n = 0; n < loads.count; ++n) steps += loads.classes[n].tiles * loads.classes[n].steps;
  const double slots = candidate.places(device) * candidate.resident;
  const double step = std::max(candidate.step.lone, candidate.step.busy * candidate.resident);
  double tiles = 0;
  for (size_t n = 0; n < loads.count; ++n) tiles += loads.classes[n].tiles;
  const auto consider = [&](int32_t splits) {
    cut.splits = splits;
    const Prediction next = predict_over(rates, memory, p, device, candidate, cut, loads);
    const bool is_fewer = splits < best.splits && next.cost() == best.cost();
    if (next.cost() < best.cost() || is_fewer) best = next;
  };
  // A good guess first, one block on every slot: beside it most others need no closer look.
  if (most > 1 && tiles > 0)
    consider(static_cast<int32_t>(std::clamp<double>(slots / tiles, 2, most)));
  for (int32_t splits = 2; splits <= most; ++splits) {
    // Less than what predict_over() computes, also by rounding: all slots busy all the time; the
    // longest block alone.
    const double rest = combine_cycles(p, device, rates, splits);
    double blocks = 0;
    for (size_t n = 0; n < loads.count; ++n)
      blocks += loads.classes[n].tiles * std::min(loads.classes[n].steps, splits);
    const double average = together((steps * step + blocks * kBlockCycles) / slots, memory);
    constexpr double kLess = kSplitGain * (1 - 1e-9);
    if (kLess * (average + rest) > best.cost()) break;  // blocks and combine only grow
    const int32_t longest = (loads.classes[0].steps + splits - 1) / splits;
    const double alone = together(kBlockCycles + longest * candidate.step.lone, memory);
    if (kLess * (alone + rest) <= best.cost()) consider(splits);
  }
  return best;
}

}  // namespace qkv::host::attention
