#pragma once

#include "host/core/device.h"

namespace qkv::host {

// The caller's current device, restored on every way out.
class CurrentDevice {
 public:
  explicit CurrentDevice(const CudaRuntime& cuda) : cuda_(cuda) {}
  ~CurrentDevice() { (void)restore(); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

  Status set(int32_t index) { return cuda_.set_device(index, &previous_); }
  Status restore() {
    int32_t ignored = 0;
    if (previous_ < 0) return {};
    Status status = cuda_.set_device(previous_, &ignored);
    if (status.ok()) previous_ = -1;
    return status;
  }

 private:
  const CudaRuntime& cuda_;
  int32_t previous_ = -1;  // -1: nothing to restore
};

}  // namespace qkv::host
