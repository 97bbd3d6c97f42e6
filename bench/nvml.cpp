#include "bench/nvml.h"

#include <dlfcn.h>

#include <array>

namespace qkv::bench {
namespace {

// The few functions used, declared by hand: the header is no part of the CUDA compiler's packages.
using Device = void*;
constexpr int kClockSm = 1, kClockMemory = 2;  // nvmlClockType_t

class Nvml {
 public:
  Nvml() {
    library_ = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) return;
    int (*init)() = nullptr;
    load("nvmlInit_v2", &init);
    usable_ = init != nullptr && init() == 0;
    load("nvmlSystemGetDriverVersion", &driver);
    load("nvmlDeviceGetHandleByPciBusId_v2", &find);
    load("nvmlDeviceGetClockInfo", &clock);
    load("nvmlDeviceGetMaxClockInfo", &max_clock);
    load("nvmlDeviceGetPowerUsage", &power);
    load("nvmlDeviceGetEnforcedPowerLimit", &power_limit);
  }

  bool usable() const { return usable_; }

  int (*driver)(char* version, unsigned length) = nullptr;
  int (*find)(const char* pci_bus_id, Device* device) = nullptr;
  int (*clock)(Device, int type, unsigned* mhz) = nullptr;
  int (*max_clock)(Device, int type, unsigned* mhz) = nullptr;
  int (*power)(Device, unsigned* milliwatts) = nullptr;
  int (*power_limit)(Device, unsigned* milliwatts) = nullptr;

 private:
  template <class Function>
  void load(const char* name, Function* function) {
    *function = reinterpret_cast<Function>(dlsym(library_, name));
  }

  void* library_ = nullptr;
  bool usable_ = false;
};

// A function that is missing or fails leaves its answer at 0.
template <class Function, class... Args>
unsigned ask(Function* function, Args... args) {
  unsigned value = 0;
  return function != nullptr && function(args..., &value) == 0 ? value : 0;
}

}  // namespace

GpuState gpu_state(const std::string& pci_bus_id) {
  static const Nvml nvml;
  GpuState state;
  if (!nvml.usable()) return state;
  std::array<char, 96> version{};
  if (nvml.driver != nullptr && nvml.driver(version.data(), version.size()) == 0) {
    state.driver = version.data();
  }
  Device device = nullptr;
  if (nvml.find == nullptr || nvml.find(pci_bus_id.c_str(), &device) != 0) return state;
  state.sm_mhz = ask(nvml.clock, device, kClockSm);
  state.memory_mhz = ask(nvml.clock, device, kClockMemory);
  state.sm_max_mhz = ask(nvml.max_clock, device, kClockSm);
  state.power_watts = ask(nvml.power, device) / 1000.0;
  state.power_limit_watts = ask(nvml.power_limit, device) / 1000.0;
  return state;
}

}  // namespace qkv::bench
