#include "kernels/attention/sm80_hard/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_hard_instance<Type::kBF16, 64, false>();
template int launch_sm80_hard_instance<Type::kBF16, 64, false>(const ForwardArgs&,
                                                               const TileSchedule&, BestKey*,
                                                               void*);
template int prepare_sm80_hard_instance<Type::kBF16, 128, false>();
template int launch_sm80_hard_instance<Type::kBF16, 128, false>(const ForwardArgs&,
                                                                const TileSchedule&, BestKey*,
                                                                void*);
template int prepare_sm80_hard_instance<Type::kBF16, 256, false>();
template int launch_sm80_hard_instance<Type::kBF16, 256, false>(const ForwardArgs&,
                                                                const TileSchedule&, BestKey*,
                                                                void*);

}  // namespace qkv::kernels
