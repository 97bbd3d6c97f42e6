// Programmatic dependent launch (PTX ISA 9.7.13.13): a grid that the host launched so may begin
// before the grid ahead of it in the stream has ended. Below sm_90 no grid is launched so.
#pragma once

namespace qkv::ptx {

// The dependent grid may begin once all blocks of this one have said so, or ended.
__device__ inline void griddepcontrol_launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Until the grids ahead have ended and what they wrote can be read.
__device__ inline void griddepcontrol_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace qkv::ptx
