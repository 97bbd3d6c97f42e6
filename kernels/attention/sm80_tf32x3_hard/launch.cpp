#include "kernels/attention/sm80_tf32x3_hard/launch.h"

namespace qkv::kernels {

int prepare_sm80_tf32x3_hard(const Sm80Tf32x3HardChoice& choice) {
#define QKV_SM80_TF32X3_HARD(kDim, kRules)              \
  if (choice.max_dim == kDim && choice.rules == kRules) \
    return prepare_sm80_tf32x3_hard_instance<kDim, kRules>();
#include "kernels/attention/sm80_tf32x3_hard/instances.inc"
  return 1;
}

int launch_sm80_tf32x3_hard(const Sm80Tf32x3HardChoice& choice, const ForwardArgs& args,
                            const TileSchedule& schedule, BestKey* of_splits, void* stream) {
#define QKV_SM80_TF32X3_HARD(kDim, kRules)              \
  if (choice.max_dim == kDim && choice.rules == kRules) \
    return launch_sm80_tf32x3_hard_instance<kDim, kRules>(args, schedule, of_splits, stream);
#include "kernels/attention/sm80_tf32x3_hard/instances.inc"
  return 1;
}

}  // namespace qkv::kernels
