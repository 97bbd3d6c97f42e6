// What tests, and the stand-in driver, ask of the stand-in itself. They look these up by name; on a
// real runtime there are none.
#include "cudart/api.h"

using namespace vgpu;

// Calls of one entry point until now; of all with a null name.
VGPU_EXPORT unsigned long long __cudaVgpuCalls(const char* name) {
  std::lock_guard lock(rt().mutex);
  return name == nullptr ? rt().calls() : rt().calls_of(name);
}
// The n-th call from now fails; 0: none does. Returns 1 if the call chosen before has failed.
VGPU_EXPORT int __cudaVgpuFailCall(unsigned long long n) {
  std::lock_guard lock(rt().mutex);
  return rt().fail_call(n) ? 1 : 0;
}
// What a call that fails so returns; 0: what is likeliest of that call.
VGPU_EXPORT void __cudaVgpuFailWith(int error) {
  std::lock_guard lock(rt().mutex);
  rt().fail_with = static_cast<cudaError_t>(error);
}
// Whether the calling thread has a context: the stand-in driver asks.
VGPU_EXPORT int __cudaVgpuHasContext() { return rt().has_context() ? 1 : 0; }
