// Built instead of cuda_runtime.cpp where there is no CUDA Toolkit.
#include "host/core/cuda_runtime.h"

namespace qkv::host {
namespace {

Status absent() { return Status(QKV_UNSUPPORTED_BUILD, "this build of qkv has no CUDA"); }

}  // namespace

const CudaRuntime& real_cuda_runtime() {
  static constexpr CudaRuntime kAbsent{
      .device_count =
          [](int32_t* count) {
            *count = 0;
            return Status();
          },
      .no_device = [] { return std::string(); },
      .device_info = [](int32_t) -> const DeviceInfo* { return nullptr; },
      .pointer_info =
          [](const void*, PointerInfo* info) {
            *info = {};
            return Status();
          },
      .pending_error = [] { return absent(); },
      .set_device = [](int32_t, int32_t*) { return absent(); },
      .allocate = [](size_t, void*, void**) { return absent(); },
      .release = [](void*, void*) { return absent(); },
      .load = [](const char*, CudaCall) { return absent(); },
      .queue = [](const Run&, CudaCall) { return absent(); }};
  return kAbsent;
}

const char* cuda_release() { return nullptr; }

}  // namespace qkv::host
