#include "kernels/attention/sm80_hard/launch.h"

namespace qkv::kernels {

int prepare_sm80_hard(const Sm80HardChoice& choice) {
#define QKV_SM80_HARD(kType, kDim, kRules)                                               \
  if (choice.type == Type::k##kType && choice.max_dim == kDim && choice.rules == kRules) \
    return prepare_sm80_hard_instance<Type::k##kType, kDim, kRules>();
#include "kernels/attention/sm80_hard/instances.inc"
  return 1;
}

int launch_sm80_hard(const Sm80HardChoice& choice, const ForwardArgs& args,
                     const TileSchedule& schedule, BestKey* of_splits, void* stream) {
#define QKV_SM80_HARD(kType, kDim, kRules)                                                    \
  if (choice.type == Type::k##kType && choice.max_dim == kDim && choice.rules == kRules)      \
    return launch_sm80_hard_instance<Type::k##kType, kDim, kRules>(args, schedule, of_splits, \
                                                                   stream);
#include "kernels/attention/sm80_hard/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
