#include "kernels/attention/sm90_forward/launch.cuh"

namespace qkv::kernels {

template int prepare_sm90_forward_instance<Type::kBF16, 64, 64, Sm90Variant::kPlain>();
template int launch_sm90_forward_instance<Type::kBF16, 64, 64, Sm90Variant::kPlain>(
    const Sm90ForwardArgs&, int32_t, void*);

}  // namespace qkv::kernels
