#include "kernels/attention/sm80_top_k/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_top_k_instance<Type::kBF16, 64, true>(int32_t);
template int launch_sm80_top_k_instance<Type::kBF16, 64, true>(const ForwardArgs&, const TopKArgs&,
                                                               const TileSchedule&, RankedKey*,
                                                               void*);
template int prepare_sm80_top_k_instance<Type::kBF16, 128, true>(int32_t);
template int launch_sm80_top_k_instance<Type::kBF16, 128, true>(const ForwardArgs&, const TopKArgs&,
                                                                const TileSchedule&, RankedKey*,
                                                                void*);
template int prepare_sm80_top_k_instance<Type::kBF16, 256, true>(int32_t);
template int launch_sm80_top_k_instance<Type::kBF16, 256, true>(const ForwardArgs&, const TopKArgs&,
                                                                const TileSchedule&, RankedKey*,
                                                                void*);

}  // namespace qkv::kernels
