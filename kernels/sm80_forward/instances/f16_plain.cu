#include "kernels/sm80_forward/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_forward_instance<Type::kF16, 64, false>();
template int launch_sm80_forward_instance<Type::kF16, 64, false>(const ForwardArgs&, void*);
template int prepare_sm80_forward_instance<Type::kF16, 128, false>();
template int launch_sm80_forward_instance<Type::kF16, 128, false>(const ForwardArgs&, void*);
template int prepare_sm80_forward_instance<Type::kF16, 256, false>();
template int launch_sm80_forward_instance<Type::kF16, 256, false>(const ForwardArgs&, void*);

}  // namespace qkv::kernels
