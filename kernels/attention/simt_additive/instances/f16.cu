#include "kernels/attention/simt_additive/launch.cuh"

namespace qkv::kernels {

template int prepare_simt_additive_instance<Type::kF16>();
template int launch_simt_additive_instance<Type::kF16>(const ForwardArgs&, void*);

}  // namespace qkv::kernels
