// GPUs by name, in facts of their makers: what plans are asked about where no such card is. The
// library does not have them: the program, tests and benchmarks do.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "host/core/device.h"

namespace qkv::host {

struct KnownDevice {
  const char* key;   // "h100"
  const char* name;  // as CUDA has it, or nearly
  int32_t compute;   // 90 for sm_90
  int32_t sm_count;
  int32_t l2_mib;
  int32_t memory_gib;
  int32_t clock_mhz;   // of the multiprocessors, the highest
  int32_t load_mhz;    // the same while tensor cores are busy
  int32_t memory_gbs;  // of device memory, 10^9 bytes a second
};

std::span<const KnownDevice> known_devices();

// By key, in any case of letters; null: there is none.
const KnownDevice* find_known_device(std::string_view key);

// "t4, a100, ...".
std::string known_device_keys();

// What CUDA would say of it.
DeviceInfo device_info_of(const KnownDevice& known);

}  // namespace qkv::host
