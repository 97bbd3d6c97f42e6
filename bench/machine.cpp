#include "bench/machine.h"

#include <fmt/format.h>
#include <omp.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "bench/git_id.h"
#include "host/core/device.h"
#include "qkv/qkv.h"

namespace qkv::bench {
namespace {

// The first value of a "key : value" line; "" if there is none.
std::string cpuinfo(const std::string& key) {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return {};
}

std::string cpu_name() {
  const std::string model = cpuinfo("model name");
  if (model.empty()) return host::cpu_device_info().name;
  return model + " (family " + cpuinfo("cpu family") + ", model " + cpuinfo("model") + ")";
}

std::string cpu_extensions() {
  const std::string flags = " " + cpuinfo("flags") + " ";
  std::string out;
  for (const char* name : {"avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16"}) {
    if (flags.find(std::string(" ") + name + " ") == std::string::npos) continue;
    out += (out.empty() ? "" : " ") + std::string(name);
  }
  return out.empty() ? "none of avx2 and later" : out;
}

std::string memory_gib() {
  const double bytes =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  return std::to_string(static_cast<long>(bytes / (1 << 30) + 0.5)) + " GiB";
}

std::string system_name() {
  utsname name{};
  if (uname(&name) != 0) return "unknown";
  return std::string(name.sysname) + " " + name.machine;
}

// Over one minute: more than a little, and others were at work too.
std::string load_average() {
  double load = 0;
  if (getloadavg(&load, 1) != 1) return "unknown";
  return fmt::format("{:.2f}", load);
}

}  // namespace

Facts machine_facts() {
  return {
      {"cpu", cpu_name()},
      {"cpu_mhz_now", cpuinfo("cpu MHz")},
      {"cpu_extensions", cpu_extensions()},
      {"cores", std::to_string(sysconf(_SC_NPROCESSORS_ONLN))},
      {"threads", std::to_string(omp_get_max_threads())},
      {"memory", memory_gib()},
      {"load_before", load_average()},
      {"system", system_name()},
      {"compiler", std::string(QKV_BENCH_COMPILER)},
      {"build_type", QKV_BENCH_BUILD_TYPE},
      {"git_id", kGitId},
      {"kernels", kKernels},
      {"qkv_version", std::to_string(qkv_version() / 10000) + "." +
                          std::to_string(qkv_version() / 100 % 100) + "." +
                          std::to_string(qkv_version() % 100)},
  };
}

std::string fact(const Facts& facts, const std::string& key) {
  for (const auto& [name, value] : facts) {
    if (name == key) return value;
  }
  return {};
}

}  // namespace qkv::bench
