#include "device.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <new>
#include <numeric>
#include <string_view>

#include "errors.h"
#include "host/core/device.h"
#include "host/io/array.h"
#include "host/ops/attention/problem.h"
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

class AttentionJob : public Job {
 public:
  AttentionJob(const qkv_attention_desc& desc, const DeviceChoice& where) : desc_(desc) {
    desc_.device = where.device;
    desc_.device_index = where.index;
  }

  std::string check_support() override {
    const qkv_attention_desc question =
        desc_.device == QKV_DEVICE_CPU ? desc_ : without_addresses(desc_);
    qkv_query_result answer{};
    answer.struct_size = sizeof answer;
    check(qkv_query(&question, &answer));
    if (answer.supported == 0) throw Error(QKV_UNSUPPORTED_KERNEL, answer.reasons);
    return answer.kernel;
  }

  void move(const Move& to_copy) override {
    for (const auto& row : host::attention::kTensors) to_copy(&(desc_.*row.given));
  }

  size_t prepare() override {
    qkv_plan* made = nullptr;
    check(qkv_plan_create(&desc_, &made));
    plan_.reset(made);
    size_t bytes = 0;
    check(qkv_plan_workspace_size(plan_.get(), &bytes));
    return bytes;
  }

  void run(void* workspace, size_t bytes) override {
    desc_.workspace = workspace;
    desc_.workspace_size = bytes;
    check(qkv_plan_run(plan_.get(), &desc_, nullptr));
  }
  int32_t most_threads() const override { return desc_.threads; }

 private:
  qkv_attention_desc desc_;
  std::unique_ptr<qkv_plan, DestroyPlan> plan_;
};

RunReport run_on_cpu(Job* job, int most_runs) {
  RunReport report;
  report.kernel = job->check_support();
  const Workspace workspace(job->prepare());
  const int32_t threads = host::cpu_threads(job->most_threads());
  report.device = threads == 1 ? "cpu, 1 thread" : fmt::format("cpu, up to {} threads", threads);
  report.workspace_bytes = workspace.size();
  while (wants_another_run(report, most_runs)) {
    const auto begin = std::chrono::steady_clock::now();
    job->run(workspace.data(), workspace.size());
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
    report.milliseconds.push_back(time.count());
  }
  return report;
}

// Whether the option names a device; else it is auto.
bool names_device(const std::string& option, DeviceChoice* choice) {
  if (option == "cpu") return true;
  if (parse_cuda(option, &choice->index)) {
    choice->device = QKV_DEVICE_CUDA;
    return true;
  }
  if (option != "auto") {
    throw BadInput(
        fmt::format("--device is {}; allowed: auto, cpu, cuda, cuda:N", io::quoted(option)));
  }
  return false;
}

// From a tensor's first element to its last.
std::span<std::byte> memory_of(const qkv_tensor& tensor) {
  int64_t elements = 1;
  for (size_t axis = 0; axis < 4; ++axis) {
    elements += (tensor.shape[axis] - 1) * tensor.stride[axis];
  }
  return {static_cast<std::byte*>(tensor.data),
          static_cast<size_t>(elements * host::type_size(tensor.type))};
}

std::string time_text(double milliseconds) {
  if (milliseconds < 1) return fmt::format("{:.1f} us", milliseconds * 1000);
  if (milliseconds < 1000) return fmt::format("{:.2f} ms", milliseconds);
  return fmt::format("{:.2f} s", milliseconds / 1000);
}

}  // namespace

bool wants_another_run(const RunReport& report, int most_runs) {
  const std::vector<double>& done = report.milliseconds;
  return done.empty() || (std::ssize(done) < most_runs &&
                          std::reduce(done.begin(), done.end()) < kEnoughMilliseconds);
}

std::string time_text(const RunReport& report) {
  std::vector<double> times = report.milliseconds;
  if (times.size() == 1) return time_text(times[0]) + " (one run)";
  std::ranges::sort(times);
  return fmt::format("{} (fastest of {} runs, median {})", time_text(times[0]), times.size(),
                     time_text(times[times.size() / 2]));
}

qkv_attention_desc without_addresses(qkv_attention_desc desc) {
  for (const auto& row : host::attention::kTensors) (desc.*row.given).data = nullptr;
  return desc;
}

bool is_of_this_machine(const std::string& option) {
  int32_t index = 0;
  return option == "auto" || option == "cpu" || parse_cuda(option, &index);
}

DeviceChoice choose_device(const std::string& option) {
  DeviceChoice choice;
  if (names_device(option, &choice)) return choice;
  if (qkv_device_count() > 0)
    choice.device = QKV_DEVICE_CUDA;
  else
    choice.note = host::cuda_runtime().no_device();
  return choice;
}

DeviceChoice choose_device(const std::string& option, const qkv_attention_desc& desc) {
  DeviceChoice choice;
  if (names_device(option, &choice)) return choice;
  if (qkv_device_count() == 0) {
    choice.note = host::cuda_runtime().no_device();
    return choice;
  }
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

RunReport run(Job* job, const DeviceChoice& where, const std::vector<Buffer>& buffers,
              int most_runs) {
  return where.device == QKV_DEVICE_CPU ? run_on_cpu(job, most_runs)
                                        : run_on_cuda(job, where.index, buffers, most_runs);
}

RunReport run(const qkv_attention_desc& desc, const DeviceChoice& where,
              const std::vector<Buffer>& buffers, int most_runs) {
  AttentionJob job(desc, where);
  return run(&job, where, buffers, most_runs);
}

RunReport run_once(const qkv_attention_desc& desc, const DeviceChoice& where) {
  std::vector<Buffer> buffers;
  for (const auto& row : host::attention::kTensors) {
    const qkv_tensor& tensor = desc.*row.given;
    if (tensor.data != nullptr) {
      buffers.push_back({memory_of(tensor), row.use == host::Use::kOutput});
    }
  }
  return run(desc, where, buffers, 1);
}

}  // namespace qkv::cli
