// Every other entry point of the runtime: says its name and returns cudaErrorNotSupported.
//
// The functions are defined without their real parameters, which the calling convention allows to
// be ignored; so this file must not see the runtime's own declarations.
namespace vgpu {
int unsupported_call(const char* name);
}

#define VGPU_UNSUPPORTED(name)                                   \
  extern "C" __attribute__((visibility("default"))) int name();  \
  extern "C" __attribute__((visibility("default"))) int name() { \
    return vgpu::unsupported_call(#name);                        \
  }
#include "cudart/unsupported.inc"
