#include "kernels/attention/sm80_top_k/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_top_k_instance<Type::kF16, 64, false>(int32_t);
template int launch_sm80_top_k_instance<Type::kF16, 64, false>(const ForwardArgs&, const TopKArgs&,
                                                               const TileSchedule&, RankedKey*,
                                                               void*);
template int prepare_sm80_top_k_instance<Type::kF16, 128, false>(int32_t);
template int launch_sm80_top_k_instance<Type::kF16, 128, false>(const ForwardArgs&, const TopKArgs&,
                                                                const TileSchedule&, RankedKey*,
                                                                void*);
template int prepare_sm80_top_k_instance<Type::kF16, 256, false>(int32_t);
template int launch_sm80_top_k_instance<Type::kF16, 256, false>(const ForwardArgs&, const TopKArgs&,
                                                                const TileSchedule&, RankedKey*,
                                                                void*);

}  // namespace qkv::kernels
