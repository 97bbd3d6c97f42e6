#include "kernels/attention/sm80_additive/launch.h"

namespace qkv::kernels {

int prepare_sm80_additive(const Sm80AdditiveChoice& choice) {
#define QKV_SM80_ADDITIVE(kType, kDim, kRules)                                           \
  if (choice.type == Type::k##kType && choice.max_dim == kDim && choice.rules == kRules) \
    return prepare_sm80_additive_instance<Type::k##kType, kDim, kRules>();
#include "kernels/attention/sm80_additive/instances.inc"
  return 1;
}

int launch_sm80_additive(const Sm80AdditiveChoice& choice, const ForwardArgs& args,
                         const TileSchedule& schedule, const Partials& partials, void* stream) {
#define QKV_SM80_ADDITIVE(kType, kDim, kRules)                                                   \
  if (choice.type == Type::k##kType && choice.max_dim == kDim && choice.rules == kRules)         \
    return launch_sm80_additive_instance<Type::k##kType, kDim, kRules>(args, schedule, partials, \
                                                                       stream);
#include "kernels/attention/sm80_additive/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
