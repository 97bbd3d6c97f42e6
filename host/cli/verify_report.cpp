#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "qkv/qkv.h"
#include "verify.h"

namespace qkv::cli {
namespace {

using verify::Fault;
using verify::KernelReport;

constexpr size_t kShownFaults = 3;  // of a kernel; the others are in the JSON

size_t passed_instances(const KernelReport& report) {
  return static_cast<size_t>(std::count_if(
      report.instances.begin(), report.instances.end(),
      [](const auto& entry) { return entry.second.passed > 0 && entry.second.failed == 0; }));
}

size_t tried(const KernelReport& report) { return report.passed + report.failed; }

std::string fault_text(const Fault& fault) {
  if (fault.trial.empty())
    return fault.instance.empty() ? fault.what : fault.instance + ": " + fault.what;
  return fmt::format("{} ({}): {}", fault.trial, fault.instance, fault.what);
}

}  // namespace

std::string device_option(const DeviceChoice& where) {
  return where.device == QKV_DEVICE_CPU ? "cpu" : fmt::format("cuda:{}", where.index);
}

std::string repro(const VerifyOptions& options, const DeviceChoice& where,
                  const std::string& kernel, const Fault& fault) {
  return fmt::format("qkv verify --device {} --kernel {}{} --seed {}", device_option(where), kernel,
                     fault.trial.empty() ? "" : " --trial " + fault.trial, options.seed);
}

void print_head(std::FILE* out) {
  fmt::print(out, "{:<14} {:>9} {:>14} {:>14} {:>9}\n", "kernel", "instances", "trials",
             "error/allowed", "seconds");
}

void print_kernel(std::FILE* out, const KernelReport& report) {
  fmt::print(out, "{:<14} {:>9} {:>14} {:>14} {:>9.1f}  {}\n", report.kernel,
             fmt::format("{}/{}", passed_instances(report), report.instances.size()),
             fmt::format("{} of {}", tried(report), report.of),
             report.passed == 0 ? "-" : fmt::format("{:.2f}", report.worst), report.seconds,
             report.ok() ? "passed" : "FAILED");
  std::fflush(out);
}

void print_faults(std::FILE* out, const VerifyOptions& options, const DeviceChoice& where,
                  const std::vector<KernelReport>& reports) {
  for (const KernelReport& report : reports) {
    for (size_t n = 0; n < std::min(report.faults.size(), kShownFaults); ++n) {
      const Fault& fault = report.faults[n];
      fmt::print(out, "\nFAILED {}: {}\n  repro: {}\n", report.kernel, fault_text(fault),
                 repro(options, where, report.kernel, fault));
    }
    if (report.faults.size() > kShownFaults)
      fmt::print(out, "\nFAILED {}: {} more faults (--json FILE has them all)\n", report.kernel,
                 report.faults.size() - kShownFaults);
  }
}

void print_left_out(std::FILE* out, const std::vector<KernelReport>& reports,
                    const std::vector<std::string>& other_instances) {
  size_t no_time = 0, after_fault = 0;
  for (const KernelReport& report : reports)
    no_time += report.no_time, after_fault += report.after_fault;
  if (no_time > 0) fmt::print(out, "No time for {} trials: --seconds N gives more.\n", no_time);
  if (after_fault > 0)
    fmt::print(out, "Not tried, since their instance had ended a process: {} trials.\n",
               after_fault);
  if (!other_instances.empty())
    fmt::print(out, "Not for this device: {} instances.\n", other_instances.size());
}

nlohmann::ordered_json json_of(const VerifyOptions& options, const DeviceChoice& where,
                               const std::string& device_name,
                               const std::vector<KernelReport>& reports,
                               const std::vector<std::string>& other_instances) {
  nlohmann::ordered_json out;
  out["build"] = nlohmann::ordered_json::parse(qkv_build_info());
  out["device"] = device_option(where);
  out["device_name"] = device_name;
  out["seed"] = options.seed;
  out["seconds"] = options.seconds;
  out["passed"] = std::all_of(reports.begin(), reports.end(),
                              [](const KernelReport& report) { return report.ok(); });
  out["kernels"] = nlohmann::ordered_json::array();
  for (const KernelReport& report : reports) {
    nlohmann::ordered_json kernel;
    kernel["kernel"] = report.kernel;
    kernel["passed"] = report.ok();
    kernel["trials"] = {{"of", report.of},
                        {"passed", report.passed},
                        {"failed", report.failed},
                        {"no_time", report.no_time},
                        {"after_fault", report.after_fault}};
    kernel["error_over_allowed"] = report.worst;
    kernel["error_over_allowed_in"] = report.worst_trial;
    kernel["seconds"] = report.seconds;
    kernel["instances"] = nlohmann::ordered_json::object();
    for (const auto& [name, instance] : report.instances) {
      kernel["instances"][name] = {
          {"of", instance.of}, {"passed", instance.passed}, {"failed", instance.failed}};
    }
    kernel["faults"] = nlohmann::ordered_json::array();
    for (const Fault& fault : report.faults) {
      kernel["faults"].push_back({{"trial", fault.trial},
                                  {"instance", fault.instance},
                                  {"what", fault.what},
                                  {"repro", repro(options, where, report.kernel, fault)}});
    }
    out["kernels"].push_back(std::move(kernel));
  }
  out["not_for_this_device"] = other_instances;
  return out;
}

}  // namespace qkv::cli
