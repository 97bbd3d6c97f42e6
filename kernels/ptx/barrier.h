#pragma once

namespace qkv::ptx {

// barrier.sync and barrier.arrive (PTX ISA 9.7.13.1) at barrier `id` with `threads` in all, those
// that only arrive among them. Barrier 0 is __syncthreads'.
__device__ inline void barrier_sync(int id, int threads) {
  asm volatile("barrier.sync.aligned %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void barrier_arrive(int id, int threads) {
  asm volatile("barrier.arrive.aligned %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace qkv::ptx
