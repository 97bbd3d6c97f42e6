#pragma once

#include <cstdint>

namespace qkv::ptx {

// cp.async.cg.shared.global [to], [from], 16, bytes (PTX ISA 9.7.9.25.3): 16 bytes from global to
// shared memory, both 16-byte aligned, past L1. The bytes from `bytes` on are 0; with 0 nothing is
// read.
__device__ inline void cp_async_16(uint32_t to, const void* from, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

// cp.async.commit_group (same section): this thread's copies so far are one group.
__device__ inline void cp_async_commit_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// cp.async.wait_group (same section): all but the latest kPending groups of this thread are there.
template <int kPending>
__device__ inline void cp_async_wait_group() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace qkv::ptx
