#include "kernels/attention/sm80_forward/launch.h"

namespace qkv::kernels {

int prepare_sm80_forward(const Sm80ForwardChoice& choice) {
#define QKV_SM80_FORWARD(kType, kDim, kVariant)                  \
  if (choice.type == Type::k##kType && choice.max_dim == kDim && \
      choice.variant == Sm80Variant::k##kVariant)                \
    return prepare_sm80_forward_instance<Type::k##kType, kDim, Sm80Variant::k##kVariant>();
#include "kernels/attention/sm80_forward/instances.inc"
  return 1;
}

int launch_sm80_forward(const Sm80ForwardChoice& choice, const ForwardArgs& args,
                        const TileSchedule& schedule, const Partials& partials, void* stream) {
#define QKV_SM80_FORWARD(kType, kDim, kVariant)                                          \
  if (choice.type == Type::k##kType && choice.max_dim == kDim &&                         \
      choice.variant == Sm80Variant::k##kVariant)                                        \
    return launch_sm80_forward_instance<Type::k##kType, kDim, Sm80Variant::k##kVariant>( \
        args, schedule, partials, stream);
#include "kernels/attention/sm80_forward/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
