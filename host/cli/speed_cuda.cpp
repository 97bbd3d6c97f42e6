// qkv and unfused attention by cuBLAS on a GPU, in turn. Without CUDA there is nothing to time.
#include "errors.h"
#include "speed.h"

#if QKV_HAS_CUDA

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <vector>

#include "bench/baselines/cublas_attention.h"
#include "bench/check.h"
#include "bench/cuda_tools.h"
#include "bench/gemm_ceiling.h"
#include "bench/tensors.h"
#include "host/core/device.h"
#include "host/ops/attention/problem.h"
#include "qkv/qkv.hpp"

namespace qkv::cli {
namespace {

using bench::Buffer;
using bench::cuda_check;
using bench::DeviceBuffer;

constexpr int kPoison = 0xff;  // every element NaN

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// One side of the comparison: what it puts on a stream, and the device's seconds for it.
struct Side {
  std::function<void(cudaStream_t)> queue;
  bool rounds_scores;
  std::vector<double> seconds;
};

// The four tensors' memory, on one side of the bus.
struct Addresses {
  void *q, *k, *v, *o;
};

}  // namespace

struct GpuSpeedTest::State {
  int32_t index;
  GpuSpeedSizes sizes;
  qkv_type type;
  Buffer q, k, v, o;  // [tokens / sequence, heads, sequence, dim], whatever the sequence
  DeviceBuffer device_q, device_k, device_v, device_o;
  bench::DeviceTimer timer;
  double gemm = 0;

  State(int32_t device, const GpuSpeedSizes& wanted, const host::DeviceInfo& info);

  Attention attention(int64_t sequence, bool causal, Device device, const Addresses& at) const;
  // What is wrong with the side's output; "": nothing.
  std::string check(int64_t sequence, bool causal, const Side& side);
  void time_in_turn(std::vector<Side>* sides);
};

GpuSpeedTest::State::State(int32_t device, const GpuSpeedSizes& wanted,
                           const host::DeviceInfo& info)
    : index(device),
      sizes(wanted),
      type(info.compute >= 80 ? QKV_TYPE_BF16 : QKV_TYPE_F16),
      timer(static_cast<size_t>(info.l2_bytes)) {
  const int64_t count = sizes.tokens * sizes.heads * kSpeedDim;
  const auto bytes = static_cast<size_t>(count * host::type_size(type));
  uint64_t seed = 0;
  for (Buffer* buffer : {&q, &k, &v, &o}) {
    *buffer = Buffer(bytes);
    bench::fill_random(*buffer, type, ++seed);
  }
  device_q = bench::upload(q.data(), bytes);
  device_k = bench::upload(k.data(), bytes);
  device_v = bench::upload(v.data(), bytes);
  device_o = bench::upload(o.data(), bytes);
  if (!has_cublas()) return;
  try {
    gemm = bench::gemm_ceiling_tflops(type, &timer,
                                      {sizes.gemm_size, sizes.gemm_runs, sizes.gemm_warm_seconds});
  } catch (const std::runtime_error&) {
    // cuBLAS is there and fails: measure() says how.
  }
}

Attention GpuSpeedTest::State::attention(int64_t sequence, bool causal, Device device,
                                         const Addresses& at) const {
  const int64_t batch = sizes.tokens / sequence, head = sequence * kSpeedDim;
  const auto tensor = [&](void* data) {
    return strided(data, type, {batch, sizes.heads, sequence, kSpeedDim},
                   {sizes.heads * head, head, kSpeedDim, 1});
  };
  return {.q = tensor(at.q),
          .k = tensor(at.k),
          .v = tensor(at.v),
          .o = tensor(at.o),
          .causal = causal,
          .device = device,
          .device_index = device == Device::kCuda ? index : 0};
}

// Runs the side once and holds its output against the oracle on sampled rows.
std::string GpuSpeedTest::State::check(int64_t sequence, bool causal, const Side& side) {
  cuda_check(cudaMemset(device_o.data(), kPoison, device_o.bytes()), "cudaMemset");
  cuda_check(cudaDeviceSynchronize(), "cudaMemset");
  (void)timer.seconds(side.queue);
  cuda_check(cudaMemcpy(o.data(), device_o.data(), o.bytes(), cudaMemcpyDeviceToHost), "download");
  const host::attention::Problem problem = bench::make_problem(
      attention(sequence, causal, Device::kCpu, {q.data(), k.data(), v.data(), o.data()}).desc());
  return bench::Reference(problem).check(side.rounds_scores);
}

void GpuSpeedTest::State::time_in_turn(std::vector<Side>* sides) {
  double total = 0;
  for (int turn = 0; turn < sizes.least_runs || total < sizes.seconds; ++turn) {
    for (Side& side : *sides) {
      side.seconds.push_back(timer.seconds(side.queue));
      total += side.seconds.back();
    }
  }
}

GpuSpeedTest::GpuSpeedTest(int32_t index, const GpuSpeedSizes& sizes) {
  cuda_check(cudaSetDevice(index), "choosing the device");
  const host::DeviceInfo* info = host::cuda_runtime().device_info(index);
  if (info == nullptr) throw Failure(fmt::format("there is no CUDA device {}", index));
  state_ = std::make_unique<State>(index, sizes, *info);
}

GpuSpeedTest::~GpuSpeedTest() = default;

qkv_type GpuSpeedTest::type() const { return state_->type; }
bool GpuSpeedTest::has_cublas() { return bench::CublasAttention::available().empty(); }
double GpuSpeedTest::gemm() const { return state_->gemm; }

GpuSpeed GpuSpeedTest::measure(int64_t sequence, bool causal) const {
  State& on = *state_;
  const Addresses at{on.device_q.data(), on.device_k.data(), on.device_v.data(),
                     on.device_o.data()};
  const Attention attention = on.attention(sequence, causal, Device::kCuda, at);
  GpuSpeed out;
  out.kernel = query(attention).kernel;
  const Plan plan(attention);
  const DeviceBuffer workspace(plan.workspace_size());
  std::vector<Side> sides;
  sides.push_back({[&](cudaStream_t stream) {
                     plan.run(attention, workspace.data(), workspace.bytes(), stream);
                   },
                   false,
                   {}});
  if (const std::string wrong = on.check(sequence, causal, sides[0]); !wrong.empty()) {
    throw Failure("qkv's result is wrong: " + wrong);
  }

  const int64_t batch = on.sizes.tokens / sequence;
  bench::CublasAttention unfused(
      {on.type, batch, on.sizes.heads, on.sizes.heads, sequence, sequence, kSpeedDim, kSpeedDim,
       static_cast<float>(1 / std::sqrt(static_cast<double>(kSpeedDim))), causal});
  DeviceBuffer scratch;
  const auto queue_unfused = [&](cudaStream_t stream) {
    const std::string failed = unfused.run(at.q, at.k, at.v, at.o, scratch.data(), stream);
    if (!failed.empty()) throw std::runtime_error(failed);
  };
  try {
    scratch = DeviceBuffer(unfused.workspace_bytes());  // all scores at once: gigabytes
    const Side side{queue_unfused, true, {}};
    out.why_not_unfused = on.check(sequence, causal, side);
    if (out.why_not_unfused.empty()) sides.push_back(side);
  } catch (const std::runtime_error& error) {
    out.why_not_unfused = error.what();
  }

  on.time_in_turn(&sides);
  const auto n = static_cast<double>(sequence);
  const double pairs = causal ? n * (n + 1) / 2 : n * n;
  const double flops =
      4.0 * static_cast<double>(batch * on.sizes.heads * kSpeedDim) * pairs * 1e-12;
  out.qkv = flops / median(sides[0].seconds);
  if (sides.size() > 1) out.unfused = flops / median(sides[1].seconds);
  return out;
}

}  // namespace qkv::cli

#else

namespace qkv::cli {

struct GpuSpeedTest::State {};
GpuSpeedTest::GpuSpeedTest(int32_t, const GpuSpeedSizes&) {
  throw Failure("this build of qkv has no CUDA");
}
GpuSpeedTest::~GpuSpeedTest() = default;
qkv_type GpuSpeedTest::type() const { return QKV_TYPE_NONE; }
bool GpuSpeedTest::has_cublas() { return false; }
double GpuSpeedTest::gemm() const { return 0; }
GpuSpeed GpuSpeedTest::measure(int64_t, bool) const { return {}; }

}  // namespace qkv::cli

#endif
