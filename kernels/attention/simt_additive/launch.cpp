#include "kernels/attention/simt_additive/launch.h"

namespace qkv::kernels {

int prepare_simt_additive(Type type) {
#define QKV_SIMT_ADDITIVE(kType) \
  if (type == Type::k##kType) return prepare_simt_additive_instance<Type::k##kType>();
#include "kernels/attention/simt_additive/instances.inc"
  return 1;
}

int launch_simt_additive(Type type, const ForwardArgs& args, void* stream) {
#define QKV_SIMT_ADDITIVE(kType) \
  if (type == Type::k##kType) return launch_simt_additive_instance<Type::k##kType>(args, stream);
#include "kernels/attention/simt_additive/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
