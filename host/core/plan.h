// The plan: which kernel runs a problem, and how. A pure function of problem, device and
// QKV_DISABLE: no CUDA call, no data read.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "host/core/device.h"
#include "host/core/op.h"
#include "host/core/view.h"

namespace qkv::host {

struct Plan {
  const Kernel* kernel = nullptr;
  std::string declined;  // one line for each kernel before the chosen one: "name: reason"
  std::unique_ptr<KernelPlan> own;  // the kernel's

  size_t workspace_bytes() const { return own->workspace_bytes; }
};

// QKV_UNSUPPORTED_KERNEL with every reason if all kernels of the problem's device decline, or are
// disabled.
Status make_plan(const Op& op, const AnyProblem& problem, const DeviceInfo& device, Plan* plan);

// The plan of the next kernel that does not decline: plan->kernel could not be prepared, for this
// reason.
Status pass_over(const Op& op, const AnyProblem& problem, const DeviceInfo& device,
                 const std::string& reason, Plan* plan);

// The plan as text, for people.
std::string plan_text(const Op& op, const Plan& plan, const AnyProblem& problem,
                      const DeviceInfo& device);

// A line of such texts: the values behind a label of 12 columns.
template <class... Values>
std::string text_line(std::string label, const Values&... values) {
  label.resize(12, ' ');
  return text(label, values..., "\n");
}

// All that a plan depends on, word by word: problems with equal keys share plans. A plan made for
// some alignment serves addresses with that alignment or better.
class PlanKey {
 public:
  // What one tensor takes at most. Ops hold with a static_assert that they fit.
  static constexpr size_t kTensorWords = 9;
  static constexpr size_t kWords = 320;
  static constexpr size_t kTensors = 32;

  PlanKey() = default;
  PlanKey(const PlanKey& other) { *this = other; }
  PlanKey& operator=(const PlanKey& other);

  // Both throw std::length_error, which is a defect of the op, rather than leave something out.
  void add(int64_t word) {
    if (words_ == kWords) overrun();
    word_[words_++] = word;
  }
  // Type, shape, strides and alignment; an absent tensor is a word.
  void add(const View& view) {
    const size_t needed = view.present() ? kTensorWords : 1;
    if (words_ + needed > kWords || tensors_ == kTensors) overrun();
    int64_t* out = word_.data() + words_;
    *out++ = view.type;
    if (view.present()) {
      out = std::copy(view.shape.begin(), view.shape.end(), out);
      std::copy(view.stride.begin(), view.stride.end(), out);
    }
    words_ += needed;
    alignment_[tensors_++] = alignment(view.data);
  }

  // Plans on the CPU take tensors at any multiple of the element's size.
  void forget_alignment() { std::fill_n(alignment_.begin(), tensors_, uint8_t{1}); }

  bool operator==(const PlanKey& other) const;
  // Equal but for the alignment of addresses.
  bool same_problem(const PlanKey& other) const;
  // Whether a plan made for this key runs a call with that one.
  bool serves(const PlanKey& call) const;
  uint64_t hash() const;

 private:
  // 16 for null: a problem without addresses is planned for aligned ones.
  static uint8_t alignment(const void* data) {
    const uintptr_t bits = reinterpret_cast<uintptr_t>(data) | 16;
    return static_cast<uint8_t>(bits & (~bits + 1));
  }
  [[noreturn]] static void overrun();

  size_t words_ = 0, tensors_ = 0;
  std::array<int64_t, kWords> word_;         // the first words_ count
  std::array<uint8_t, kTensors> alignment_;  // of each tensor's address, at most 16
};

PlanKey plan_key(const Op& op, const AnyProblem& problem, const DeviceInfo& device);

}  // namespace qkv::host

// What the C ABI hands out, and what the cache holds.
struct qkv_plan {
  const qkv::host::Op* op;
  qkv::host::PlanKey key;
  qkv::host::DeviceInfo device;
  qkv::host::Plan plan;
  // For printing, with the addresses it was made from, which no run uses. Null in the cache.
  std::shared_ptr<const qkv::host::AnyProblem> problem;  // shared: deletes what it was made from
};
