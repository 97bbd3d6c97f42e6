#include "host/core/known_devices.h"

#include <algorithm>
#include <cctype>

namespace qkv::host {
namespace {

// NVIDIA's data sheets, and its whitepapers of GV100, TU104 (T4), GA100, GA102, AD102, GH100 and
// the two of Blackwell. Clocks are boost clocks. "h100" is the card of
// bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3.tsv: clocks as its driver gave them, the one
// under load while cuBLAS multiplied at 700 W; an H200 is the same chip with the same power; nobody
// has measured the others' under load. Memory: its clock times its width, twice.
constexpr KnownDevice kKnown[] = {
    {"v100", "Tesla V100-SXM2-16GB", 70, 80, 6, 16, 1530, 1530, 898},
    {"t4", "Tesla T4", 75, 40, 4, 15, 1590, 1590, 320},
    {"a100", "NVIDIA A100-SXM4-80GB", 80, 108, 40, 80, 1410, 1410, 2039},
    {"a100-40gb", "NVIDIA A100-SXM4-40GB", 80, 108, 40, 40, 1410, 1410, 1555},
    {"a10", "NVIDIA A10", 86, 72, 6, 24, 1695, 1695, 600},
    {"a40", "NVIDIA A40", 86, 84, 6, 48, 1740, 1740, 696},
    {"rtx3090", "NVIDIA GeForce RTX 3090", 86, 82, 6, 24, 1695, 1695, 936},
    {"l4", "NVIDIA L4", 89, 58, 48, 24, 2040, 2040, 300},
    {"l40s", "NVIDIA L40S", 89, 142, 96, 48, 2520, 2520, 864},
    {"rtx4090", "NVIDIA GeForce RTX 4090", 89, 128, 72, 24, 2520, 2520, 1008},
    {"h100", "NVIDIA H100 80GB HBM3", 90, 132, 50, 80, 1980, 1530, 3352},
    {"h100-pcie", "NVIDIA H100 PCIe", 90, 114, 50, 80, 1755, 1755, 2039},
    {"h200", "NVIDIA H200", 90, 132, 50, 141, 1980, 1530, 4800},
    {"b200", "NVIDIA B200", 100, 148, 126, 180, 1965, 1965, 8000},
    {"rtx5090", "NVIDIA GeForce RTX 5090", 120, 170, 96, 32, 2407, 2407, 1792},
};

// Shared memory of a multiprocessor, in KiB (CUDA C++ programming guide, compute capabilities).
// From sm_80 on a block may have all but the one that CUDA takes.
int32_t smem_kib(int32_t compute) {
  switch (compute) {
    case 70:
      return 96;
    case 75:
      return 64;
    case 80:
      return 164;
    case 90:
    case 100:
      return 228;
    default:
      return 100;
  }
}

}  // namespace

std::span<const KnownDevice> known_devices() { return kKnown; }

const KnownDevice* find_known_device(std::string_view key) {
  const auto same = [](char given, char known) {
    return std::tolower(static_cast<unsigned char>(given)) == known;
  };
  const auto* found = std::ranges::find_if(kKnown, [&](const KnownDevice& known) {
    return std::ranges::equal(key, std::string_view(known.key), same);
  });
  return found == std::end(kKnown) ? nullptr : found;
}

std::string known_device_keys() {
  std::string keys;
  for (const KnownDevice& known : kKnown)
    keys += (keys.empty() ? "" : ", ") + std::string(known.key);
  return keys;
}

DeviceInfo device_info_of(const KnownDevice& known) {
  DeviceInfo info;
  info.kind = QKV_DEVICE_CUDA;
  info.compute = known.compute;
  info.sm_count = known.sm_count;
  info.smem_per_sm = smem_kib(known.compute) << 10;
  info.smem_per_block = info.smem_per_sm - (known.compute < 80 ? 0 : 1024);
  info.l2_bytes = int64_t{known.l2_mib} << 20;
  info.memory_bytes = int64_t{known.memory_gib} << 30;
  info.clock_mhz = known.clock_mhz;
  info.memory_gbs = known.memory_gbs;
  info.name = known.name;
  return info;
}

}  // namespace qkv::host
