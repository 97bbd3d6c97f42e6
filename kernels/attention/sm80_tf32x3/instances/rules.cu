#include "kernels/attention/sm80_tf32x3/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_tf32x3_instance<64, true>();
template int launch_sm80_tf32x3_instance<64, true>(const ForwardArgs&, void*);
template int prepare_sm80_tf32x3_instance<128, true>();
template int launch_sm80_tf32x3_instance<128, true>(const ForwardArgs&, void*);

}  // namespace qkv::kernels
