#include "kernels/attention/sm80_additive/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_additive_instance<Type::kF16, 64, false>();
template int launch_sm80_additive_instance<Type::kF16, 64, false>(const ForwardArgs&,
                                                                  const TileSchedule&,
                                                                  const Partials&, void*);
template int prepare_sm80_additive_instance<Type::kF16, 128, false>();
template int launch_sm80_additive_instance<Type::kF16, 128, false>(const ForwardArgs&,
                                                                   const TileSchedule&,
                                                                   const Partials&, void*);

}  // namespace qkv::kernels
