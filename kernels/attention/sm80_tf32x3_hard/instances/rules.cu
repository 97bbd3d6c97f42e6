#include "kernels/attention/sm80_tf32x3_hard/launch.cuh"

namespace qkv::kernels {

template int prepare_sm80_tf32x3_hard_instance<64, true>();
template int launch_sm80_tf32x3_hard_instance<64, true>(const ForwardArgs&, const TileSchedule&,
                                                        BestKey*, void*);
template int prepare_sm80_tf32x3_hard_instance<128, true>();
template int launch_sm80_tf32x3_hard_instance<128, true>(const ForwardArgs&, const TileSchedule&,
                                                         BestKey*, void*);
template int prepare_sm80_tf32x3_hard_instance<256, true>();
template int launch_sm80_tf32x3_hard_instance<256, true>(const ForwardArgs&, const TileSchedule&,
                                                         BestKey*, void*);

}  // namespace qkv::kernels
