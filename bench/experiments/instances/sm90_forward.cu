// The instances of sm90_forward that experiments compile.
#include "kernels/attention/sm90_forward/launch.cuh"

namespace qkv::kernels {

#define QKV_SM90_FORWARD(kType, kDimQk, kDimV, kSoftcap)                                 \
  template int prepare_sm90_forward_instance<Type::k##kType, kDimQk, kDimV, kSoftcap>(); \
  template int launch_sm90_forward_instance<Type::k##kType, kDimQk, kDimV, kSoftcap>(    \
      const Sm90ForwardArgs&, int32_t, void*);
#include "kernels/attention/sm90_forward/instances.inc"

}  // namespace qkv::kernels
