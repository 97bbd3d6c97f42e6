#include "kernels/attention/top_k_combine/launch.cuh"

namespace qkv::kernels {

template int prepare_top_k_combine_instance<Type::kBF16>();
template int launch_top_k_combine_instance<Type::kBF16>(const ForwardArgs&, const TopKArgs&,
                                                        int32_t, const RankedKey*, void*);

}  // namespace qkv::kernels
