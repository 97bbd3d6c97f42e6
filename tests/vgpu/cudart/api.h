// Shared by the files that export the runtime's entry points.
#pragma once

#include "cudart/runtime.h"

#define VGPU_EXPORT extern "C" __attribute__((visibility("default")))

namespace vgpu {

inline Runtime& rt() { return Runtime::get(); }

// An entry point: `injected` is what it returns when VGPU_FAIL_CALL chooses it.
template <class F>
cudaError_t api(const char* name, F&& body, cudaError_t injected = cudaErrorUnknown) {
  return rt().call(name, injected, std::forward<F>(body));
}
cudaError_t unsupported(const char* name);

}  // namespace vgpu
