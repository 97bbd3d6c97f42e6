#include "kernels/sm80_forward/launch.h"

namespace qkv::kernels {

int prepare_sm80_forward(const Sm80ForwardChoice& choice) {
#define QKV_SM80_FORWARD(kType, kDim, kRules)                                            \
  if (choice.type == Type::k##kType && choice.max_dim == kDim && choice.rules == kRules) \
    return prepare_sm80_forward_instance<Type::k##kType, kDim, kRules>();
#include "kernels/kernels.inc"
  return 1;
}

int launch_sm80_forward(const Sm80ForwardChoice& choice, const ForwardArgs& args, void* stream) {
#define QKV_SM80_FORWARD(kType, kDim, kRules)                                            \
  if (choice.type == Type::k##kType && choice.max_dim == kDim && choice.rules == kRules) \
    return launch_sm80_forward_instance<Type::k##kType, kDim, kRules>(args, stream);
#include "kernels/kernels.inc"
  return 1;
}

}  // namespace qkv::kernels
