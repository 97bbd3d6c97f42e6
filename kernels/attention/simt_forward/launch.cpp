#include "kernels/attention/simt_forward/launch.h"

#include "kernels/attention/simt_forward/policy.h"

namespace qkv::kernels {

int prepare_simt_forward(Type type, int32_t d_v) {
  const int32_t max_dim = simt_forward_policy(d_v).max_dim;
#define QKV_SIMT_FORWARD(kType, kMaxDim)            \
  if (type == Type::k##kType && max_dim == kMaxDim) \
    return prepare_simt_forward_instance<Type::k##kType, kMaxDim>();
#include "kernels/attention/simt_forward/instances.inc"
  return 1;
}

int launch_simt_forward(Type type, const ForwardArgs& args, void* stream) {
  const int32_t max_dim = simt_forward_policy(args.d_v).max_dim;
#define QKV_SIMT_FORWARD(kType, kMaxDim)            \
  if (type == Type::k##kType && max_dim == kMaxDim) \
    return launch_simt_forward_instance<Type::k##kType, kMaxDim>(args, stream);
#include "kernels/attention/simt_forward/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
