// The instances of sm90_forward that experiments compile.
#include "kernels/attention/sm90_forward/launch.cuh"

namespace qkv::kernels {

#define QKV_SM90_FORWARD(kType, kDimQk, kDimV, kVariant)                                    \
  template int                                                                              \
  prepare_sm90_forward_instance<Type::k##kType, kDimQk, kDimV, Sm90Variant::k##kVariant>(); \
  template int                                                                              \
  launch_sm90_forward_instance<Type::k##kType, kDimQk, kDimV, Sm90Variant::k##kVariant>(    \
      const Sm90ForwardArgs&, int32_t, void*);
#include "kernels/attention/sm90_forward/instances.inc"

}  // namespace qkv::kernels
