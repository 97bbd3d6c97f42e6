#include "kernels/attention/simt_forward/launch.cuh"

namespace qkv::kernels {

template int prepare_simt_forward_instance<Type::kF16, 64>();
template int launch_simt_forward_instance<Type::kF16, 64>(const ForwardArgs&, void*);
template int prepare_simt_forward_instance<Type::kF16, 128>();
template int launch_simt_forward_instance<Type::kF16, 128>(const ForwardArgs&, void*);
template int prepare_simt_forward_instance<Type::kF16, 256>();
template int launch_simt_forward_instance<Type::kF16, 256>(const ForwardArgs&, void*);
template int prepare_simt_forward_instance<Type::kF16, 576>();
template int launch_simt_forward_instance<Type::kF16, 576>(const ForwardArgs&, void*);

}  // namespace qkv::kernels
