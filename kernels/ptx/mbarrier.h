// Barriers in shared memory that count arrivals and bytes of asynchronous copies (PTX ISA
// 9.7.13.15). Their phases alternate in parity, the first has 0; `barrier` is a shared address.
#pragma once

#include <cstdint>

namespace qkv::ptx {

// mbarrier.init (9.7.13.15.9): a phase ends after `arrivals`. Others may use the barrier after
// fence_mbarrier_init and a barrier of the block.
__device__ inline void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// fence.mbarrier_init (9.7.13.4): asynchronous copies see the barriers that this thread made.
__device__ inline void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// mbarrier.arrive (9.7.13.15.13): one arrival, with release semantics: who waits sees what the
// thread did before.
__device__ inline void mbarrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// mbarrier.arrive.expect_tx (same section): one arrival; the phase also waits for `bytes` copied.
__device__ inline void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// The same at a barrier of any block of the cluster, at an address of mapa's. Its release is the
// block's own: another block learns from it that reads are done, not what was written. (.cluster
// would put a fence of the whole device in front.)
__device__ inline void mbarrier_arrive_cluster(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// mbarrier.try_wait.parity (9.7.13.15.16) until the phase of this parity has ended. Of the phase
// before the first one the parity is 1, and it has ended.
__device__ inline void mbarrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "wait:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra wait;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

}  // namespace qkv::ptx
