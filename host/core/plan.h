// The plan: which kernel runs a problem, and how. A pure function of problem and device: no CUDA
// call, no data read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "host/core/device.h"
#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/problem.h"
#include "kernels/core/scheduler.h"
#include "kernels/policy.h"

namespace qkv::kernels {
struct Sm90Maps;
}

namespace qkv::host {

struct Plan;

// One implementation of attention. The registry holds them in order of preference.
struct Kernel {
  const char* name;
  qkv_device device;
  // Why the kernel cannot run the problem on the device; empty: it can.
  std::string (*decline)(const Problem&, const DeviceInfo&);
  // Fills the kernel's part of the plan.
  void (*plan)(const Problem&, const DeviceInfo&, Plan*);
  // Once per plan, before any run or graph capture: generated code, module load, attributes.
  Status (*prepare)(const Problem&, const CudaRuntime&, Plan*);
  // Queues the work. CUDA kernels return the launch's cudaError_t, CPU kernels report in *status.
  int (*launch)(const Problem&, const Plan&, void* workspace, void* stream, Status* status);
};

struct Plan {
  const Kernel* kernel = nullptr;
  std::string declined;  // one line for each kernel before the chosen one: "name: reason"
  size_t workspace_bytes = 0;

  // CPU kernels.
  cpu::Policy cpu;
  std::shared_ptr<const cpu::TileProducts> products;

  // CUDA kernels.
  int32_t tile_q = 0, tile_kv = 0;
  int32_t threads = 0;     // of a block
  int64_t blocks = 0;      // of the grid
  int32_t smem_bytes = 0;  // of a block

  // CUDA kernels that pack and split.
  kernels::TileSchedule schedule;
  kernels::Sm80Variant variant = kernels::Sm80Variant::kTall;
  double predicted_cycles = 0, predicted_waves = 0;
  bool fetch_tiles = false;  // by a counter in the workspace
  std::shared_ptr<const kernels::Sm90Maps> tma_maps;
};

// All kernels, best first.
std::span<const Kernel* const> kernels();

// QKV_UNSUPPORTED_KERNEL with every reason if all kernels of the problem's device decline.
Status make_plan(const Problem& problem, const DeviceInfo& device, Plan* plan);

// The plan as text, for people.
std::string plan_text(const Plan& plan, const Problem& problem, const DeviceInfo& device);

// All that a plan depends on: problems with equal keys share plans. A plan made for some alignment
// serves addresses with that alignment or better.
struct PlanKey {
  static constexpr size_t kViews = 12;
  static constexpr size_t kShape = 24 + kViews * 9;
  std::array<int64_t, kShape> shape{};
  std::array<int64_t, kViews> alignment{};  // of each tensor's address, at most 16

  bool operator==(const PlanKey&) const = default;
  bool serves(const PlanKey& call) const;
  uint64_t hash() const;
};
PlanKey plan_key(const Problem& problem, const DeviceInfo& device);

}  // namespace qkv::host

// What the C ABI hands out, and what the cache holds.
struct qkv_plan {
  qkv::host::PlanKey key;
  qkv::host::Problem problem;  // with the addresses it was made from, which no run uses
  qkv::host::DeviceInfo device;
  qkv::host::Plan plan;
};
