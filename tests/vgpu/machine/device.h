// The devices that the virtual GPU can be, as numbers from their data sheets and from the CUDA
// programming guide's table of compute capabilities.
#pragma once

#include <string>
#include <vector>

#include "common/types.h"

namespace vgpu {

struct DeviceModel {
  std::string key, name;
  int major, minor;
  int sms;
  u64 memory_bytes;
  u32 shared_per_sm, shared_per_block_optin;
  u32 reserved_shared_per_block;
  u32 threads_per_sm, blocks_per_sm;
  u32 l2_bytes;
  u32 clock_khz, memory_clock_khz, bus_width;

  int capability() const { return major * 10 + minor; }
};

inline constexpr u32 kMaxThreadsPerBlock = 1024;
inline constexpr u32 kRegistersPerSm = 65536;
inline constexpr u32 kStaticSharedLimit = 48 * 1024;

// nullptr when there is no such device.
const DeviceModel* find_device(const std::string& key);
const std::vector<DeviceModel>& all_devices();

// Blocks of one kernel that fit on an SM, by threads, registers, shared memory and slots.
u32 blocks_per_sm(const DeviceModel& device, u32 threads, u32 registers, u32 shared_bytes);

}  // namespace vgpu
