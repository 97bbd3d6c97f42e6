// The wave model: what it predicts against a simulation that places every block, what it chooses
// against every other choice, and against the fixed rules of other libraries.
#include "host/ops/attention/wave_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <queue>
#include <string_view>
#include <vector>

#include "host/core/plan.h"
#include "kernels/attention/combine/launch.h"
#include "kernels/attention/sm80_forward/policy.h"
#include "tests/support/elements.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/plans.h"

namespace qkv::test {
namespace {

using host::DeviceInfo;
using host::Plan;
using host::attention::Candidate;
using host::attention::Prediction;
using host::attention::Problem;
using kernels::TileSchedule;

struct Shape {
  int64_t batch, heads_q, heads_kv, s_q, s_kv;
  bool causal = false;
  int64_t left = host::attention::kUnbounded;
};

Problem problem_of(const Shape& shape, int64_t dim = 128) {
  Problem p;
  p.device = QKV_DEVICE_CUDA;
  p.type = p.q.type = p.k.type = p.v.type = p.o.type = QKV_TYPE_BF16;
  p.batch = shape.batch, p.heads_q = shape.heads_q, p.heads_kv = shape.heads_kv;
  p.s_q = shape.s_q, p.s_kv = shape.s_kv;
  p.d_qk = p.d_v = dim;
  if (shape.causal) p.right = 0;
  p.left = shape.left;
  return p;
}

TileSchedule schedule_of(const Problem& p, int32_t tile_q, int32_t tile_kv, int32_t group = 1) {
  return kernels::tile_schedule(tile_q, tile_kv, static_cast<int32_t>(p.batch),
                                static_cast<int32_t>(p.heads_q), static_cast<int32_t>(p.heads_kv),
                                static_cast<int32_t>(p.s_q), group);
}

Candidate candidate_of(const DeviceInfo& device, int32_t stages = 2) {
  return {host::attention::mma_step(host::attention::device_rates(device), 128, 48, stages, 128,
                                    2.0 * 128 * (128 + 4 * 2 * 48), false),
          2};
}

// Every block of the grid in its order to the slot that is free first; each as long as the key
// blocks it has.
double simulate(const Problem& p, const DeviceInfo& device, const Candidate& candidate,
                const TileSchedule& schedule) {
  std::vector<int32_t> steps;
  int64_t working = 0;
  for (int64_t n = 0; n < schedule.blocks(); ++n) {
    const auto tile = kernels::work_tile(schedule, static_cast<uint32_t>(n));
    const int32_t last = schedule.query(tile.row + tile.rows - 1);
    const auto begin = host::attention::visible_keys(p, schedule.query(tile.row), p.s_kv).begin;
    const auto end = host::attention::visible_keys(p, last, p.s_kv).end;
    const auto keys = kernels::keys_of_split(
        schedule, {static_cast<int32_t>(begin), static_cast<int32_t>(end)}, tile.split);
    const bool some = keys.begin < keys.end;
    steps.push_back(some ? (keys.end - 1) / schedule.tile_kv - keys.begin / schedule.tile_kv + 1
                         : 0);
    working += some;
  }
  const int64_t sms = device.sm_count;
  const int64_t side_by_side =
      std::clamp<int64_t>((working + sms - 1) / sms, 1, candidate.resident);
  const double step =
      std::max(candidate.step.lone, candidate.step.busy * static_cast<double>(side_by_side));
  std::priority_queue<double, std::vector<double>, std::greater<>> free;
  for (int64_t n = 0; n < sms * side_by_side; ++n) free.push(0);
  double end = 0;
  for (const int32_t n : steps) {
    const double at = free.top() + (n > 0 ? host::attention::kBlockCycles + n * step
                                          : host::attention::kEmptyBlockCycles);
    free.pop();
    free.push(at);
    end = std::max(end, at);
  }
  return end;
}

Prediction predict(const Problem& p, const DeviceInfo& device, const Candidate& candidate,
                   TileSchedule schedule, int32_t splits) {
  schedule.splits = splits;
  return host::attention::predict(p, device, candidate, schedule,
                                  host::attention::tile_loads(p, schedule));
}

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

Plan plan_of(const Problem& p, const DeviceInfo& device) {
  Plan plan;
  EXPECT_TRUE(make_plan(p, device, &plan).ok());
  EXPECT_TRUE(plan.kernel->name == std::string_view("sm80_forward") ||
              plan.kernel->name == std::string_view("sm90_forward"))
      << plan.kernel->name;
  return plan;
}

const Shape kShapes[] = {
    {1, 8, 8, 1, 4096},
    {1, 1, 1, 1, 100000},
    {1, 32, 8, 1, 8192},
    {4, 32, 8, 1, 2048},
    {64, 32, 8, 1, 1024},
    {1, 1, 1, 128, 512},
    {1, 16, 16, 512, 512, true},
    {2, 16, 4, 1000, 1000},
    {1, 8, 8, 4096, 4096, true},
    {2, 4, 2, 300, 3000, true},
    {8, 64, 8, 2, 333, true},
    {1, 4, 4, 2048, 2048, true, 500},
    {16, 16, 16, 1024, 1024, true},
    {1, 2, 2, 64, 16384},
    {1, 133, 133, 100, 2000},
};

// The closed form against blocks placed one by one; for tiles of one length it is exact. (For
// others list scheduling, longest first, stays within 4/3 of the optimum; classes of tiles
// average.)
TEST(WaveModel, AgreesWithASimulationOfEveryBlock) {
  double worst = 1, best = 1;
  for (const int32_t compute : {80, 89, 90}) {
    const DeviceInfo device = fake_device(compute);
    const Candidate candidate = candidate_of(device);
    for (const Shape& shape : kShapes) {
      const Problem p = problem_of(shape);
      for (const int32_t splits : {1, 2, 3, 7}) {
        TileSchedule schedule = schedule_of(p, 128, 48);
        schedule.splits = splits;
        const double simulated = simulate(p, device, candidate, schedule);
        const double predicted = host::attention::makespan(device, candidate, schedule,
                                                           host::attention::tile_loads(p, schedule))
                                     .cycles;
        worst = std::max(worst, simulated / predicted);
        best = std::min(best, simulated / predicted);
        EXPECT_LE(simulated, 1.34 * predicted)
            << shape.s_q << " x " << shape.s_kv << ", " << splits;
        EXPECT_GE(simulated, 0.93 * predicted)
            << shape.s_q << " x " << shape.s_kv << ", " << splits;
        if (!p.windowed() && (p.s_kv + 47) / 48 % splits == 0) {
          EXPECT_NEAR(simulated, predicted, 1e-9 * predicted) << "equal blocks";
        }
      }
    }
  }
  std::printf("simulated / predicted: %.3f to %.3f\n", best, worst);
}

TEST(WaveModel, PicksTheBestOfAllSplits) {
  for (const int32_t compute : {80, 89, 90, 120}) {
    const DeviceInfo device = fake_device(compute);
    const Candidate candidate = candidate_of(device);
    for (const Shape& shape : kShapes) {
      const Problem p = problem_of(shape);
      const TileSchedule schedule = schedule_of(p, 128, 48);
      const Prediction chosen = host::attention::best_splits(p, device, candidate, schedule,
                                                             host::attention::kModelSplits);
      Prediction best = predict(p, device, candidate, schedule, 1);
      EXPECT_LE(chosen.cycles, best.cycles) << "never worse than one split";
      if (chosen.splits > 1) {
        EXPECT_LE(host::attention::kSplitGain * chosen.cycles, best.cycles);
      }
      for (int32_t splits = 2; splits <= host::attention::kModelSplits; ++splits) {
        const Prediction next = predict(p, device, candidate, schedule, splits);
        if (next.cost() < best.cost()) best = next;
      }
      EXPECT_EQ(chosen.cycles, best.cycles);
      EXPECT_EQ(chosen.splits, best.splits) << "the fewest of equally good ones";
    }
  }
}

// The rule of FlashAttention-3: one split where the tiles fill 80 % of the multiprocessors, or
// there are at most 4 blocks of keys; else the fewest that reach 85 % of the best wave's fill.
int32_t rule_of_thumb(int64_t tiles, int64_t sms, int32_t key_blocks) {
  if (static_cast<double>(tiles) >= 0.8 * static_cast<double>(sms) || key_blocks <= 4) return 1;
  const int32_t most = std::min({128, static_cast<int32_t>(sms), key_blocks});
  const auto fill = [&](int32_t splits) {
    const double waves = static_cast<double>(tiles * splits) / static_cast<double>(sms);
    return waves / std::ceil(waves);
  };
  double best = 0;
  for (int32_t n = 1; n <= most; ++n) best = std::max(best, fill(n));
  for (int32_t n = 1; n <= most; ++n)
    if (fill(n) >= 0.85 * best) return n;
  return 1;
}

TEST(WaveModel, BeatsFixedRules) {
  const DeviceInfo device = fake_device(90);
  // Of one stage, where loads are seen most.
  const Candidate candidate = candidate_of(device, 1);
  int better = 0;
  std::printf("%5s %5s %6s %8s | %6s %9s | %6s %9s | %s\n", "batch", "heads", "s_q", "s_kv", "rule",
              "cycles", "model", "cycles", "rule / model");
  for (const Shape& shape :
       {Shape{1, 1, 1, 1, 192}, Shape{1, 8, 8, 1, 192}, Shape{1, 4, 4, 1, 512},
        Shape{1, 8, 8, 1, 4096}, Shape{1, 8, 8, 1, 16384}, Shape{2, 40, 40, 1, 8192},
        Shape{1, 32, 32, 1, 8192}, Shape{4, 8, 8, 1, 65536}, Shape{1, 112, 112, 1, 4096},
        Shape{1, 1, 1, 128, 65536}, Shape{1, 16, 16, 1024, 1024}}) {
    const Problem p = problem_of(shape);
    const TileSchedule schedule = schedule_of(p, 128, 48);
    const int32_t key_blocks = static_cast<int32_t>((p.s_kv + 127) / 128);
    const int32_t rule = rule_of_thumb(schedule.blocks(), device.sm_count, key_blocks);
    const double by_rule = predict(p, device, candidate, schedule, rule).cycles;
    const Prediction chosen =
        host::attention::best_splits(p, device, candidate, schedule, host::attention::kModelSplits);
    std::printf("%5lld %5lld %6lld %8lld | %6d %9.0f | %6d %9.0f | %.2f\n",
                static_cast<long long>(p.batch), static_cast<long long>(p.heads_q),
                static_cast<long long>(p.s_q), static_cast<long long>(p.s_kv), rule, by_rule,
                chosen.splits, chosen.cycles, by_rule / chosen.cycles);
    EXPECT_LE(chosen.cycles, by_rule);
    better += by_rule > 1.2 * chosen.cycles;
  }
  EXPECT_GE(better, 2) << "by more than 20 %";
}

// --- what the plan makes of it

// One query reads K and V and does little else: all multiprocessors read, and device memory takes
// most of the time.
TEST(WavePlan, FillsTheDeviceWithOneQuery) {
  const Problem p = problem_of({1, 8, 1, 1, 131072});
  const double bytes = 2.0 * 131072 * (128 + 128);
  for (const int32_t compute : {80, 86, 89, 90, 100, 120}) {
    const DeviceInfo device = fake_device(compute);
    const Plan plan = plan_of(p, device);
    const double memory = bytes / (host::attention::device_rates(device).hbm * device.sm_count);
    const int32_t most = std::min(device.sm_count, host::attention::kModelSplits);
    EXPECT_GE(plan_tiles(plan).blocks, most * 9 / 10) << compute;
    if (compute != 100) {  // whose memory is faster than one tile's 128 splits draw
      EXPECT_LE(plan_cut(plan).predicted.cycles, 2 * memory) << compute;
    }
    EXPECT_GE(plan_cut(plan).predicted.cycles, memory) << compute;
    EXPECT_GT(plan_schedule(plan).splits, 1);
    EXPECT_EQ(plan_schedule(plan).group.divisor, 8u) << "K and V are read once for all heads";
  }
}

// Computing and memory that take as long together take longer than one of them, at most both.
TEST(WaveModel, NeitherComputingNorMemoryHidesTheOther) {
  DeviceInfo device = fake_device(90);
  const Candidate candidate = candidate_of(device);
  for (const Shape& shape : kShapes) {
    const Problem p = problem_of(shape);
    const TileSchedule schedule = schedule_of(p, 128, 48);
    const auto loads = host::attention::tile_loads(p, schedule);
    const double bytes =
        2.0 * 2 * 128 * static_cast<double>(p.batch * (p.heads_kv * p.s_kv + p.heads_q * p.s_q));
    const double computing = host::attention::makespan(device, candidate, schedule, loads).cycles;
    for (const int32_t memory_gbs : {300, 3352, 12000}) {
      device.memory_gbs = memory_gbs;
      const double memory = bytes / (host::attention::device_rates(device).hbm * device.sm_count);
      const Prediction both = predict(p, device, candidate, schedule, 1);
      EXPECT_NEAR(both.cycles, std::hypot(computing, memory), 1e-9 * both.cycles);
      EXPECT_EQ(both.by_memory, memory > computing);
    }
  }
}

// Much workspace for a little less time; some for much less.
TEST(WavePlan, SplitsAreWorthTheirWorkspace) {
  const DeviceInfo device = fake_device(80);
  const Candidate candidate = candidate_of(device);
  const auto best = [&](const Shape& shape) {
    const Problem p = problem_of(shape);
    return host::attention::best_splits(p, device, candidate, schedule_of(p, 128, 48),
                                        host::attention::kModelSplits);
  };
  const Shape little{1, 16, 16, 4096, 4096}, much{1, 8, 8, 2048, 2048, true};
  EXPECT_EQ(best(little).splits, 1);
  EXPECT_EQ(plan_of(problem_of(little), device).workspace_bytes(), 0u);
  EXPECT_GT(best(much).splits, 1);
  EXPECT_GT(plan_of(problem_of(much), device).workspace_bytes(), 0u);
}

TEST(WavePlan, DoesNotSplitWhatFillsTheDevice) {
  for (const int32_t compute : {80, 89, 90}) {
    for (const Shape& shape : {Shape{8, 32, 32, 2048, 2048}, Shape{8, 32, 8, 2048, 2048, true},
                               Shape{256, 32, 8, 1, 4096}}) {
      EXPECT_EQ(plan_schedule(plan_of(problem_of(shape), fake_device(compute))).splits, 1);
    }
  }
}

TEST(WavePlan, PacksHeadsOfFewQueries) {
  const Plan decode = plan_of(problem_of({64, 32, 8, 1, 4096}), fake_device(90));
  EXPECT_EQ(plan_schedule(decode).group.divisor, 4u);
  EXPECT_EQ(plan_schedule(decode).blocks(), 64 * 8 * plan_schedule(decode).splits);
  const Plan alone = plan_of(problem_of({64, 32, 32, 1, 4096}), fake_device(90));
  EXPECT_EQ(plan_schedule(alone).group.divisor, 1u);
}

// At width 128 two short blocks fit where a multiprocessor has 100 KiB, but one tall.
TEST(WavePlan, ChoosesTilesByDevice) {
  const Problem p = problem_of({4, 32, 32, 4096, 4096});
  EXPECT_EQ(plan_variant(plan_of(p, fake_device(80))), kernels::Sm80Variant::kTall);
  for (const int32_t compute : {86, 89, 120})
    EXPECT_EQ(plan_variant(plan_of(p, fake_device(compute))), kernels::Sm80Variant::kShort)
        << compute;
  const Problem few = problem_of({4, 32, 32, 40, 4096});
  EXPECT_EQ(plan_variant(plan_of(few, fake_device(80))), kernels::Sm80Variant::kShort);
}

// T13: under a fixed split size nothing that orders the sums depends on batch, heads, queries or
// the padding of K.
TEST(WavePlan, T13_FixedSplitsDependOnDimsAlone) {
  int declined = 0;
  for (const int32_t compute : {80, 89, 90}) {
    for (const int64_t dim : {64, 128, 256}) {
      for (const int64_t size : {1, 64, 100, 1000, 1 << 20}) {
        int32_t tile_kv = 0;
        for (Shape shape : kShapes) {
          Problem p = problem_of(shape, dim);
          p.fixed_split_size = size;
          if (tile_kv > 0 && p.s_kv > kernels::kMaxSplits * round_up(size, tile_kv)) {
            Plan plan;
            const host::Status status = make_plan(p, fake_device(compute), &plan);
            EXPECT_EQ(status.code(), QKV_UNSUPPORTED_KERNEL);
            EXPECT_NE(status.reason().find("takes up to 1024 splits"), std::string::npos);
            ++declined;
            continue;
          }
          const Plan plan = plan_of(p, fake_device(compute));
          const auto& cut = plan_schedule(plan);
          if (tile_kv == 0) tile_kv = plan_tiles(plan).tile_kv;
          EXPECT_EQ(plan_tiles(plan).tile_kv, tile_kv);
          const int64_t wanted = round_up(size, tile_kv);
          EXPECT_EQ(cut.split_keys % tile_kv, 0);
          EXPECT_TRUE(cut.split_keys == wanted || (cut.split_keys >= p.s_kv && cut.splits == 1));
          EXPECT_EQ(cut.splits, (p.s_kv + cut.split_keys - 1) / cut.split_keys);
          // Nor on what the model believes of the device.
          host::DeviceInfo slow = fake_device(compute);
          slow.memory_gbs /= 20, slow.sm_count = 3;
          const Plan on_slow = plan_of(p, slow);
          EXPECT_EQ(plan_tiles(on_slow).tile_kv, tile_kv);
          EXPECT_EQ(plan_schedule(on_slow).split_keys, cut.split_keys);
          EXPECT_EQ(plan_schedule(on_slow).splits, cut.splits);
        }
      }
    }
  }
  EXPECT_EQ(declined, 3 * 3 * 2 - 4)
      << "100000 keys by 64; sm90_forward has blocks of 128 keys at widths 64 and 128";
}

// T13: a kernel whose sums are ordered otherwise does not step in.
TEST(WavePlan, T13_MoreSplitsThanCombineTakesAreRefused) {
  Problem p = problem_of({1, 1, 1, 1, 64 * 1025});
  p.fixed_split_size = 64;
  Plan plan;
  const host::Status status = make_plan(p, fake_device(80), &plan);
  EXPECT_EQ(status.code(), QKV_UNSUPPORTED_KERNEL);
  for (const char* reason :
       {"sm80_forward: takes up to 1024 splits, fixed_split_size 64 makes 1025",
        "simt_forward: gives other bits than sm80_forward, which takes fixed_split_size here with "
        "up to 1024 splits",
        "simt_general: gives other bits than sm80_forward"})
    EXPECT_NE(status.reason().find(reason), std::string::npos) << status.reason();
  // Where it computes such problems anyway, it does.
  p.type = p.q.type = p.k.type = p.v.type = p.o.type = QKV_TYPE_F32;
  ASSERT_TRUE(make_plan(p, fake_device(89), &plan).ok());
  EXPECT_STREQ(plan.kernel->name, "simt_forward");
  p.type = p.q.type = p.k.type = p.v.type = p.o.type = QKV_TYPE_F16;
  Plan on_t4;
  ASSERT_TRUE(make_plan(p, fake_device(75), &on_t4).ok());
  EXPECT_STREQ(on_t4.kernel->name, "simt_forward");
}

}  // namespace
}  // namespace qkv::test
