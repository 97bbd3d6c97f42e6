#include "kernels/attention/sm80_tf32x3_hard/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_tf32x3_hard_instance<64, false>();
template int launch_sm80_tf32x3_hard_instance<64, false>(const ForwardArgs&, const TileSchedule&,
                                                         BestKey*, void*);
template int prepare_sm80_tf32x3_hard_instance<128, false>();
template int launch_sm80_tf32x3_hard_instance<128, false>(const ForwardArgs&, const TileSchedule&,
                                                          BestKey*, void*);
template int prepare_sm80_tf32x3_hard_instance<256, false>();
template int launch_sm80_tf32x3_hard_instance<256, false>(const ForwardArgs&, const TileSchedule&,
                                                          BestKey*, void*);

}  // namespace qkv::kernels
