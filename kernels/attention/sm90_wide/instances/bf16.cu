#include "kernels/attention/sm90_wide/launch.cuh"

namespace qkv::kernels {

template int prepare_sm90_wide_instance<Type::kBF16, false>();
template int launch_sm90_wide_instance<Type::kBF16, false>(const Sm90WideArgs&, void*);
template int prepare_sm90_wide_instance<Type::kBF16, true>();
template int launch_sm90_wide_instance<Type::kBF16, true>(const Sm90WideArgs&, void*);

}  // namespace qkv::kernels
