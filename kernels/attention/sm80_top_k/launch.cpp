#include "kernels/attention/sm80_top_k/launch.h"

namespace qkv::kernels {

int prepare_sm80_top_k(const Sm80TopKChoice& choice, int32_t smem_bytes) {
#define QKV_SM80_TOP_K(kType, kDim, kRules)                                              \
  if (choice.type == Type::k##kType && choice.max_dim == kDim && choice.rules == kRules) \
    return prepare_sm80_top_k_instance<Type::k##kType, kDim, kRules>(smem_bytes);
#include "kernels/attention/sm80_top_k/instances.inc"
  return 1;
}

int launch_sm80_top_k(const Sm80TopKChoice& choice, const ForwardArgs& args, const TopKArgs& top,
                      const TileSchedule& schedule, RankedKey* of_splits, void* stream) {
#define QKV_SM80_TOP_K(kType, kDim, kRules)                                              \
  if (choice.type == Type::k##kType && choice.max_dim == kDim && choice.rules == kRules) \
    return launch_sm80_top_k_instance<Type::k##kType, kDim, kRules>(args, top, schedule, \
                                                                    of_splits, stream);
#include "kernels/attention/sm80_top_k/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
