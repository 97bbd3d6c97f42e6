#include "kernels/sm80_forward/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_forward_instance<Type::kBF16, 64, true>();
template int launch_sm80_forward_instance<Type::kBF16, 64, true>(const ForwardArgs&, void*);
template int prepare_sm80_forward_instance<Type::kBF16, 128, true>();
template int launch_sm80_forward_instance<Type::kBF16, 128, true>(const ForwardArgs&, void*);
template int prepare_sm80_forward_instance<Type::kBF16, 256, true>();
template int launch_sm80_forward_instance<Type::kBF16, 256, true>(const ForwardArgs&, void*);

}  // namespace qkv::kernels
