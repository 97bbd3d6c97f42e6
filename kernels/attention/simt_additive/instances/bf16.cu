#include "kernels/attention/simt_additive/launch.cuh"

namespace qkv::kernels {

template int prepare_simt_additive_instance<Type::kBF16>();
template int launch_simt_additive_instance<Type::kBF16>(const ForwardArgs&, void*);

}  // namespace qkv::kernels
