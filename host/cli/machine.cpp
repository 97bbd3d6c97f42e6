#include "machine.h"

#include <fmt/format.h>

#include <fstream>
#include <utility>

#include "host/core/cpu/onednn.h"
#include "host/core/device.h"

namespace qkv::cli {
namespace {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

std::string isa_name() {
  switch (cpu::onednn().get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
      return "SSE 4.1";
    case dnnl_cpu_isa_avx:
      return "AVX";
    case dnnl_cpu_isa_avx2:
      return "AVX2";
    case dnnl_cpu_isa_avx2_vnni:
      return "AVX2 with VNNI";
    case dnnl_cpu_isa_avx512_core:
      return "AVX-512";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "AVX-512 with VNNI";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "AVX-512 with bf16";
    case dnnl_cpu_isa_avx512_core_amx:
      return "AVX-512 with AMX";
    default:
      return "another instruction set";
  }
}

}  // namespace

Machine this_machine() {
  Machine machine;
  machine.cpu = cpu_name();
  const cpu::OneDnn& onednn = cpu::onednn();
  if (onednn.missing.empty()) {
    const dnnl_version_t* version = onednn.version();
    machine.engine = fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
    machine.isa = isa_name();
  } else {
    machine.engine = "no oneDNN: " + onednn.missing;
    machine.isa = "unknown instruction set";
  }
  machine.threads = host::cpu_device_info().threads;
  for (int32_t i = 0; i < qkv_device_count(); ++i) {
    qkv_device_facts facts{};
    facts.struct_size = sizeof facts;
    if (qkv_device_query(i, &facts) == QKV_SUCCESS) machine.gpus.push_back(facts);
  }
  if (machine.gpus.empty()) machine.no_gpu = host::cuda_runtime().no_device();
  return machine;
}

std::string cpu_text(const Machine& machine) {
  return fmt::format("{}, {} thread{}, {}", machine.cpu, machine.threads,
                     machine.threads == 1 ? "" : "s", machine.isa);
}

std::string gpu_text(const qkv_device_facts& gpu) {
  return fmt::format("{} (sm_{}{}, {} SMs, {:.0f} GiB)", gpu.name, gpu.compute_major,
                     gpu.compute_minor, gpu.sm_count,
                     static_cast<double>(gpu.memory_bytes) / (1 << 30));
}

}  // namespace qkv::cli
