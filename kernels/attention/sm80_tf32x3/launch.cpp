#include "kernels/attention/sm80_tf32x3/launch.h"

namespace qkv::kernels {

int prepare_sm80_tf32x3(const Sm80Tf32x3Choice& choice) {
#define QKV_SM80_TF32X3(kDim, kRules)                   \
  if (choice.max_dim == kDim && choice.rules == kRules) \
    return prepare_sm80_tf32x3_instance<kDim, kRules>();
#include "kernels/attention/sm80_tf32x3/instances.inc"
  return 1;
}

int launch_sm80_tf32x3(const Sm80Tf32x3Choice& choice, const ForwardArgs& args, void* stream) {
#define QKV_SM80_TF32X3(kDim, kRules)                   \
  if (choice.max_dim == kDim && choice.rules == kRules) \
    return launch_sm80_tf32x3_instance<kDim, kRules>(args, stream);
#include "kernels/attention/sm80_tf32x3/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
