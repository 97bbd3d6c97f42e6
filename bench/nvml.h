// What the driver's management library says of a GPU. It is opened on first use; without it every
// answer is empty.
#pragma once

#include <string>

namespace qkv::bench {

struct GpuState {
  std::string driver;       // "580.95"
  unsigned sm_mhz = 0;      // now; 0: unknown
  unsigned sm_max_mhz = 0;  // as far as the card goes
  unsigned memory_mhz = 0;  // now
  double power_watts = 0;   // now
  double power_limit_watts = 0;
};

// Of the GPU at this PCI address ("0000:3b:00.0").
GpuState gpu_state(const std::string& pci_bus_id);

}  // namespace qkv::bench
