#include "kernels/attention/sm80_forward/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_forward_instance<Type::kBF16, 64, Sm80Variant::kShort>();
template int launch_sm80_forward_instance<Type::kBF16, 64, Sm80Variant::kShort>(const ForwardArgs&,
                                                                                const TileSchedule&,
                                                                                const Partials&,
                                                                                void*);
template int prepare_sm80_forward_instance<Type::kBF16, 128, Sm80Variant::kShort>();
template int launch_sm80_forward_instance<Type::kBF16, 128, Sm80Variant::kShort>(
    const ForwardArgs&, const TileSchedule&, const Partials&, void*);

}  // namespace qkv::kernels
