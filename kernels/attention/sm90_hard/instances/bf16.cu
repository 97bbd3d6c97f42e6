#include "kernels/attention/sm90_hard/launch.cuh"

namespace qkv::kernels {

template int prepare_sm90_hard_instance<Type::kBF16, 64>();
template int launch_sm90_hard_instance<Type::kBF16, 64>(const Sm90HardArgs&, int32_t, void*);
template int prepare_sm90_hard_instance<Type::kBF16, 96>();
template int launch_sm90_hard_instance<Type::kBF16, 96>(const Sm90HardArgs&, int32_t, void*);
template int prepare_sm90_hard_instance<Type::kBF16, 128>();
template int launch_sm90_hard_instance<Type::kBF16, 128>(const Sm90HardArgs&, int32_t, void*);
template int prepare_sm90_hard_instance<Type::kBF16, 192>();
template int launch_sm90_hard_instance<Type::kBF16, 192>(const Sm90HardArgs&, int32_t, void*);
template int prepare_sm90_hard_instance<Type::kBF16, 256>();
template int launch_sm90_hard_instance<Type::kBF16, 256>(const Sm90HardArgs&, int32_t, void*);

}  // namespace qkv::kernels
