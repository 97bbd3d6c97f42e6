#include "device.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <new>
#include <string_view>

#include "errors.h"
#include "host/core/device.h"
#include "host/io/array.h"
#include "qkv/qkv.hpp"

namespace qkv::cli {
namespace {

struct DestroyPlan {
  void operator()(qkv_plan* plan) const { qkv_plan_destroy(plan); }
};

class Workspace {
 public:
  explicit Workspace(size_t bytes)
      : bytes_(bytes), data_(bytes == 0 ? nullptr : ::operator new(bytes, kAlignment)) {}
  ~Workspace() {
    if (data_ != nullptr) ::operator delete(data_, kAlignment);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  void* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  static constexpr std::align_val_t kAlignment{256};
  size_t bytes_;
  void* data_;
};

bool parse_cuda(std::string_view text, int32_t* index) {
  if (!text.starts_with("cuda")) return false;
  text.remove_prefix(4);
  *index = 0;
  if (text.empty()) return true;
  if (text[0] != ':') return false;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + 1, end, *index);
  return error == std::errc() && stop == end && *index >= 0;
}

RunReport run_on_cpu(qkv_attention_desc desc) {
  desc.device = QKV_DEVICE_CPU;
  qkv_query_result answer{};
  answer.struct_size = sizeof answer;
  check(qkv_query(&desc, &answer));
  qkv_plan* made = nullptr;
  check(qkv_plan_create(&desc, &made));
  const std::unique_ptr<qkv_plan, DestroyPlan> plan(made);
  const Workspace workspace(answer.workspace_size);
  desc.workspace = workspace.data();
  desc.workspace_size = workspace.size();

  RunReport report;
  report.kernel = answer.kernel;
  const int32_t threads = host::cpu_device_info().threads;
  report.device = fmt::format("cpu, {} thread{}", threads, threads == 1 ? "" : "s");
  report.workspace_bytes = workspace.size();
  double total = 0;
  while (report.runs == 0 || (report.runs < kMostRuns && total < kEnoughMilliseconds)) {
    const auto begin = std::chrono::steady_clock::now();
    check(qkv_plan_run(plan.get(), &desc, nullptr));
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
    total += time.count();
    report.milliseconds =
        report.runs == 0 ? time.count() : std::min(report.milliseconds, time.count());
    ++report.runs;
  }
  return report;
}

}  // namespace

qkv_attention_desc without_addresses(qkv_attention_desc desc) {
  for (qkv_tensor* tensor :
       {&desc.q, &desc.k, &desc.v, &desc.o, &desc.lse, &desc.index, &desc.weights, &desc.mask,
        &desc.bias, &desc.alibi_slopes, &desc.additive_weight, &desc.kv_lengths}) {
    tensor->data = nullptr;
  }
  return desc;
}

DeviceChoice choose_device(const std::string& option, const qkv_attention_desc& desc) {
  DeviceChoice choice;
  if (option == "cpu") return choice;
  if (parse_cuda(option, &choice.index)) {
    choice.device = QKV_DEVICE_CUDA;
    return choice;
  }
  if (option != "auto") {
    throw BadInput(
        fmt::format("--device is {}; allowed: auto, cpu, cuda, cuda:N", io::quoted(option)));
  }
  if (qkv_device_count() == 0) return choice;
  qkv_attention_desc question = without_addresses(desc);
  question.device = QKV_DEVICE_CUDA;
  question.device_index = 0;
  qkv_query_result answer{};
  answer.struct_size = sizeof answer;
  check(qkv_query(&question, &answer));
  if (answer.supported != 0) {
    choice.device = QKV_DEVICE_CUDA;
  } else {
    choice.note = answer.reasons;
  }
  return choice;
}

RunReport run(const qkv_attention_desc& desc, const DeviceChoice& where,
              const std::vector<Buffer>& buffers) {
  return where.device == QKV_DEVICE_CPU ? run_on_cpu(desc)
                                        : run_on_cuda(desc, where.index, buffers);
}

}  // namespace qkv::cli
