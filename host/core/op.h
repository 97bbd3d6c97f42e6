// The nouns that every operation is made of: an op is a family of problems and the kernels that
// compute them; a problem is one call's sizes, options and tensors; a kernel is one implementation;
// a plan says which kernel runs a problem, and how. This folder knows no op by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "host/core/device.h"
#include "host/core/status.h"
#include "host/core/view.h"

namespace qkv::host {

class PlanKey;

// What is known of a problem of any op: where it runs, and the scratch it may use. Ops derive
// theirs from it.
struct AnyProblem {
  qkv_device device = QKV_DEVICE_CPU;  // never AUTO
  int32_t device_index = 0;

  int32_t threads = 0;  // CPU: at most so many; 0: as OpenMP says
  bool allow_allocation = false;
  void* workspace = nullptr;
  size_t workspace_size = 0;
};

// What a kernel has decided about one problem. The file of each kernel derives its own.
struct KernelPlan {
  KernelPlan() = default;
  virtual ~KernelPlan() = default;
  KernelPlan(const KernelPlan&) = delete;
  KernelPlan& operator=(const KernelPlan&) = delete;

  // Lines for people, each ending in a line break.
  virtual std::string text() const { return {}; }

  size_t workspace_bytes = 0;
};

// One implementation of an op. Made by kernel_of() below.
struct Kernel {
  const char* name;
  qkv_device device;
  std::string (*decline)(const AnyProblem&, const DeviceInfo&);
  std::unique_ptr<KernelPlan> (*plan)(const AnyProblem&, const DeviceInfo&);
  Status (*prepare)(const AnyProblem&, const CudaRuntime&, KernelPlan*);
  Status (*launch)(const AnyProblem&, const KernelPlan&, const CudaRuntime&, const Run&);
  bool built = true;  // else this build can plan it and no more
};

// For kernels of builds without CUDA, which still plan for any device: that is how plans are tested
// everywhere. The CUDA table of such a build refuses in their place.
template <class Problem, class Own>
Status prepare_absent(const Problem&, const CudaRuntime& cuda, Own*) {
  return cuda.load("loading a kernel", [] { return 0; });
}
template <class Problem, class Own>
Status launch_absent(const Problem&, const Own&, const CudaRuntime& cuda, const Run& run) {
  return cuda.queue(run, [] { return 0; });
}

// A kernel from four functions of its file, which know their op's Problem and their own plan, Own:
//   decline   why the kernel cannot run the problem on the device; empty: it can
//   plan      fills its plan. Pure: no CUDA call, no data read
//   prepare   once per plan, before any run or graph capture: generated code, module, attributes.
//             QKV_UNSUPPORTED_KERNEL: it cannot run here after all; plans pass over it as if it had
//             declined. QKV_UNSUPPORTED: so too, by no fault of CUDA's: a library that it needs is
//             not installed, or does not do this
//   launch    computes it on the CPU, or hands what queues it to cuda.queue()
template <class Problem, class Own, std::string (*kDecline)(const Problem&, const DeviceInfo&),
          void (*kPlan)(const Problem&, const DeviceInfo&, Own*),
          Status (*kPrepare)(const Problem&, const CudaRuntime&, Own*),
          Status (*kLaunch)(const Problem&, const Own&, const CudaRuntime&, const Run&)>
constexpr Kernel kernel_of(const char* name, qkv_device device) {
  return {name,
          device,
          [](const AnyProblem& p, const DeviceInfo& on) {
            return kDecline(static_cast<const Problem&>(p), on);
          },
          [](const AnyProblem& p, const DeviceInfo& on) -> std::unique_ptr<KernelPlan> {
            auto own = std::make_unique<Own>();
            kPlan(static_cast<const Problem&>(p), on, own.get());
            return own;
          },
          [](const AnyProblem& p, const CudaRuntime& cuda, KernelPlan* own) {
            return kPrepare(static_cast<const Problem&>(p), cuda, static_cast<Own*>(own));
          },
          [](const AnyProblem& p, const KernelPlan& own, const CudaRuntime& cuda, const Run& run) {
            return kLaunch(static_cast<const Problem&>(p), static_cast<const Own&>(own), cuda, run);
          },
          kLaunch != launch_absent<Problem, Own>};
}

// A family of problems, as api.cpp and this folder see it. Made by op_of() below.
struct Op {
  const char* name;
  std::span<const Kernel* const> kernels;  // in order of preference
  const char* replay;                      // the command line that a repro line follows
  // No output element exists: nothing to run.
  bool (*empty)(const AnyProblem&);
  // Adds all of the problem that plans depend on, its device aside.
  void (*add_key)(const AnyProblem&, PlanKey*);
  // The problem in one word, which `replay` runs again. Data is the benchmark's own.
  std::string (*repro)(const AnyProblem&);
  // The problem in lines for people, as KernelPlan::text().
  std::string (*text)(const AnyProblem&);
  // The name of a tensor that has bytes of this memory, which is to be workspace; null: none has.
  const char* (*sharing)(const AnyProblem&, const View& memory);
};

// An op from functions over its own Problem.
template <class Problem, bool (*kEmpty)(const Problem&), void (*kAddKey)(const Problem&, PlanKey*),
          std::string (*kRepro)(const Problem&), std::string (*kText)(const Problem&),
          const char* (*kSharing)(const Problem&, const View&)>
constexpr Op op_of(const char* name, std::span<const Kernel* const> kernels, const char* replay) {
  return {name,
          kernels,
          replay,
          [](const AnyProblem& p) { return kEmpty(static_cast<const Problem&>(p)); },
          [](const AnyProblem& p, PlanKey* key) { kAddKey(static_cast<const Problem&>(p), key); },
          [](const AnyProblem& p) { return kRepro(static_cast<const Problem&>(p)); },
          [](const AnyProblem& p) { return kText(static_cast<const Problem&>(p)); },
          [](const AnyProblem& p, const View& memory) {
            return kSharing(static_cast<const Problem&>(p), memory);
          }};
}

// All operations of the library: defined in api.cpp, which alone knows them.
std::span<const Op* const> all_ops();

}  // namespace qkv::host
