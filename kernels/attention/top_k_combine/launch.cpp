#include "kernels/attention/top_k_combine/launch.h"

namespace qkv::kernels {

int prepare_top_k_combine(Type type) {
#define QKV_TOP_K_COMBINE(kType) \
  if (type == Type::k##kType) return prepare_top_k_combine_instance<Type::k##kType>();
#include "kernels/attention/top_k_combine/instances.inc"
  return 1;
}

int launch_top_k_combine(Type type, const ForwardArgs& args, const TopKArgs& top, int32_t splits,
                         const RankedKey* of_splits, void* stream) {
#define QKV_TOP_K_COMBINE(kType) \
  if (type == Type::k##kType)    \
    return launch_top_k_combine_instance<Type::k##kType>(args, top, splits, of_splits, stream);
#include "kernels/attention/top_k_combine/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
