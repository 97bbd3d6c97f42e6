#include "kernels/attention/simt_forward/launch.cuh"

namespace qkv::kernels {

template int prepare_simt_forward_instance<Type::kF32, 64>();
template int launch_simt_forward_instance<Type::kF32, 64>(const ForwardArgs&, void*);
template int prepare_simt_forward_instance<Type::kF32, 128>();
template int launch_simt_forward_instance<Type::kF32, 128>(const ForwardArgs&, void*);
template int prepare_simt_forward_instance<Type::kF32, 256>();
template int launch_simt_forward_instance<Type::kF32, 256>(const ForwardArgs&, void*);
template int prepare_simt_forward_instance<Type::kF32, 576>();
template int launch_simt_forward_instance<Type::kF32, 576>(const ForwardArgs&, void*);

}  // namespace qkv::kernels
