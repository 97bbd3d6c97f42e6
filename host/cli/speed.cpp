#include "speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <functional>
#include <new>
#include <random>
#include <vector>

#include "bench/check.h"
#include "errors.h"
#include "host/core/device.h"
#include "host/core/numeric.h"
#include "host/ops/attention/problem.h"
#include "qkv/qkv.hpp"

#if QKV_HAS_BASELINE
#include "bench/baselines/cpu_unfused.h"
#endif

namespace qkv::cli {
namespace {

constexpr std::align_val_t kAlignment{256};

struct FreeAligned {
  void operator()(std::byte* pointer) const { ::operator delete(pointer, kAlignment); }
};
using Memory = std::unique_ptr<std::byte, FreeAligned>;

Memory allocate(size_t bytes) {
  return Memory(static_cast<std::byte*>(::operator new(std::max<size_t>(bytes, 1), kAlignment)));
}

// One side of the comparison.
struct Side {
  const char* name;
  std::function<void()> run;
  std::vector<double> seconds;

  // The fastest run is the one that other programs disturbed least.
  double fastest() const { return *std::min_element(seconds.begin(), seconds.end()); }
};

void time_once(Side* side) {
  const auto begin = std::chrono::steady_clock::now();
  side->run();
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  side->seconds.push_back(time.count());
}

// In turn, so that a slower moment of the machine meets all sides: for half a second and three
// times, or for two seconds. Returns the share of all threads' time that the process was running.
double time_in_turn(std::vector<Side>* sides) {
  constexpr double kSeconds = 0.5, kPatience = 2;
  constexpr size_t kLeast = 3;
  double total = 0;
  const std::clock_t begin = std::clock();
  for (size_t turn = 0; total < kSeconds || (turn < kLeast && total < kPatience); ++turn) {
    for (Side& side : *sides) {
      time_once(&side);
      total += side.seconds.back();
    }
  }
  const double used = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  return std::min(1.0, used / (total * host::cpu_device_info().threads));
}

double visible_pairs(int64_t s, bool causal) {
  const auto n = static_cast<double>(s);
  return causal ? n * (n + 1) / 2 : n * n;
}

}  // namespace

struct SpeedTest::Data {
  int64_t most = 0;
  std::vector<float> q, k, v;  // [heads, most, dim]; shorter sequences take the first elements
  std::vector<host::Bfloat> q16, k16, v16;
};

SpeedTest::SpeedTest(int64_t most) : data_(std::make_unique<Data>()) {
  data_->most = most;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto fill = [&](std::vector<float>* wide, std::vector<host::Bfloat>* narrow) {
    wide->resize(static_cast<size_t>(kSpeedHeads * most * kSpeedDim));
    narrow->reserve(wide->size());
    for (float& x : *wide) {
      x = normal(random);
      narrow->push_back(host::from_float<host::Bfloat>(x));
    }
  };
  fill(&data_->q, &data_->q16);
  fill(&data_->k, &data_->k16);
  fill(&data_->v, &data_->v16);
}

SpeedTest::~SpeedTest() = default;

bool SpeedTest::has_baseline() { return QKV_HAS_BASELINE != 0; }

Speed SpeedTest::measure(int64_t sequence, qkv_type type, bool causal) const {
  if (sequence > data_->most) throw Failure("the speed test has no such long sequence");
  const bool wide = type == QKV_TYPE_F32;
  const int64_t count = kSpeedHeads * sequence * kSpeedDim;
  const Memory o = allocate(static_cast<size_t>(count * host::type_size(type)));
  const auto tensor = [&](const void* data) {
    const int64_t head = sequence * kSpeedDim;
    return strided(data, type, {1, kSpeedHeads, sequence, kSpeedDim}, {count, head, kSpeedDim, 1});
  };
  const Tensor q = tensor(wide ? static_cast<const void*>(data_->q.data()) : data_->q16.data());
  const Tensor k = tensor(wide ? static_cast<const void*>(data_->k.data()) : data_->k16.data());
  const Tensor v = tensor(wide ? static_cast<const void*>(data_->v.data()) : data_->v16.data());
  const Attention attention{
      .q = q, .k = k, .v = v, .o = tensor(o.get()), .causal = causal, .device = Device::kCpu};

  const Plan plan(attention);
  const size_t bytes = plan.workspace_size();
  const Memory workspace = allocate(bytes);
  std::vector<Side> sides;
  sides.push_back({"qkv", [&] { plan.run(attention, workspace.get(), bytes); }, {}});

#if QKV_HAS_BASELINE
  const bench::Unfused unfused{
      type,        1,         kSpeedHeads,
      kSpeedHeads, sequence,  sequence,
      kSpeedDim,   kSpeedDim, static_cast<float>(1 / std::sqrt(static_cast<double>(kSpeedDim))),
      causal};
  const bench::CpuUnfused baseline(unfused, host::cpu_device_info().threads);
  const Memory scratch = allocate(baseline.workspace_bytes());
  sides.push_back({"the unfused baseline",
                   [&] { baseline.run(q.data, k.data, v.data, o.get(), scratch.get()); },
                   {}});
#endif

  host::attention::Problem problem;
  const qkv_attention_desc desc = attention.desc();
  const host::Status valid =
      host::attention::validate(&desc, host::Need::kAddresses, host::cuda_runtime(), &problem);
  if (!valid.ok()) throw Error(valid.code(), valid.reason());
  const bench::Reference reference(problem);
  for (Side& side : sides) {
    std::fill_n(o.get(), static_cast<size_t>(count * host::type_size(type)), std::byte{0xff});
    side.run();
    const std::string wrong = reference.check();
    if (!wrong.empty()) throw Failure(fmt::format("{} is wrong: {}", side.name, wrong));
  }
  Speed out;
  out.share = time_in_turn(&sides);

  const double flops = 4.0 * static_cast<double>(kSpeedHeads) * static_cast<double>(kSpeedDim) *
                       visible_pairs(sequence, causal);
  out.qkv = flops / sides[0].fastest() * 1e-9;
  if (sides.size() > 1) out.unfused = flops / sides[1].fastest() * 1e-9;
  return out;
}

}  // namespace qkv::cli
