#include "kernels/attention/sm80_hard/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_hard_instance<Type::kBF16, 64, true>();
template int launch_sm80_hard_instance<Type::kBF16, 64, true>(const ForwardArgs&,
                                                              const TileSchedule&, BestKey*, void*);
template int prepare_sm80_hard_instance<Type::kBF16, 128, true>();
template int launch_sm80_hard_instance<Type::kBF16, 128, true>(const ForwardArgs&,
                                                               const TileSchedule&, BestKey*,
                                                               void*);
template int prepare_sm80_hard_instance<Type::kBF16, 256, true>();
template int launch_sm80_hard_instance<Type::kBF16, 256, true>(const ForwardArgs&,
                                                               const TileSchedule&, BestKey*,
                                                               void*);

}  // namespace qkv::kernels
