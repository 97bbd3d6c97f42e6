#include "machine/device.h"

#include <algorithm>

namespace vgpu {

const std::vector<DeviceModel>& all_devices() {
  constexpr u64 kGiB = u64{1} << 30;
  constexpr u32 kKiB = 1024, kMiB = 1024 * 1024;
  static const std::vector<DeviceModel> devices = {
      {"t4", "Virtual Tesla T4", 7, 5, 40, 15 * kGiB, 64 * kKiB, 64 * kKiB, 0, 1024, 16, 4 * kMiB,
       1590000, 5001000, 256},
      {"a100", "Virtual A100-SXM4-80GB", 8, 0, 108, 80 * kGiB, 164 * kKiB, 163 * kKiB, 1024, 2048,
       32, 40 * kMiB, 1410000, 1593000, 5120},
      {"rtx4090", "Virtual GeForce RTX 4090", 8, 9, 128, 24 * kGiB, 100 * kKiB, 99 * kKiB, 1024,
       1536, 24, 72 * kMiB, 2520000, 10501000, 384},
      {"h100", "Virtual H100 80GB HBM3", 9, 0, 132, 80 * kGiB, 228 * kKiB, 227 * kKiB, 1024, 2048,
       32, 50 * kMiB, 1980000, 2619000, 5120},
  };
  return devices;
}

const DeviceModel* find_device(const std::string& key) {
  for (const DeviceModel& d : all_devices())
    if (d.key == key) return &d;
  return nullptr;
}

u32 blocks_per_sm(const DeviceModel& device, u32 threads, u32 registers, u32 shared_bytes) {
  if (threads == 0 || threads > kMaxThreadsPerBlock) return 0;
  if (shared_bytes > device.shared_per_block_optin) return 0;
  const u32 warps = (threads + 31) / 32;
  const u32 per_warp = static_cast<u32>(align_up(u64{registers} * 32, 256));
  const u32 by_threads = device.threads_per_sm / (warps * 32);
  // The number of registers is an estimate: it never says that a block does not fit at all.
  const u32 by_registers =
      per_warp == 0 ? device.blocks_per_sm : std::max(1u, kRegistersPerSm / per_warp / warps);
  const u32 shared = shared_bytes + device.reserved_shared_per_block;
  const u32 by_shared = shared == 0 ? device.blocks_per_sm : device.shared_per_sm / shared;
  return std::min({by_threads, by_registers, by_shared, device.blocks_per_sm});
}

}  // namespace vgpu
