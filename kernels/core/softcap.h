// Which softcaps softcap_scores() of warpgroup_scores.cuh computes, for plans and kernels.
#pragma once

namespace qkv::kernels {

// Its error is a fraction of the cap. Up to this cap that is less than the rounding of P to fp16.
inline constexpr float kLargestFastSoftcap = 128;

}  // namespace qkv::kernels
