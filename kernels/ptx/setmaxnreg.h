#pragma once

namespace qkv::ptx {

// setmaxnreg (PTX ISA 9.7.19.5): this warpgroup's registers per thread from now on. An increase
// waits until other warpgroups have given up enough.
template <int kRegisters>
__device__ inline void setmaxnreg_inc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void setmaxnreg_dec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace qkv::ptx
