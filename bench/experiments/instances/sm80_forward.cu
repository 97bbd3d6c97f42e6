// The instances of sm80_forward that experiments compile.
#include "kernels/attention/sm80_forward/launch.cuh"

namespace qkv::kernels {

#define QKV_SM80_FORWARD(kType, kDim, kVariant)                                                 \
  template int prepare_sm80_forward_instance<Type::k##kType, kDim, Sm80Variant::k##kVariant>(); \
  template int launch_sm80_forward_instance<Type::k##kType, kDim, Sm80Variant::k##kVariant>(    \
      const ForwardArgs&, const TileSchedule&, const Partials&, void*);
#include "kernels/attention/sm80_forward/instances.inc"

}  // namespace qkv::kernels
