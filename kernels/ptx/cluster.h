// The blocks of a cluster, which run at the same time and reach each other's shared memory.
#pragma once

#include <cstdint>

namespace qkv::ptx {

// %cluster_ctarank (PTX ISA 10.18): this block's number in its cluster.
__device__ inline uint32_t cluster_ctarank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// mapa (9.7.9.23): where block `rank` has what this block has at the shared address.
__device__ inline uint32_t mapa(uint32_t address, uint32_t rank) {
  uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}

// barrier.cluster.arrive.relaxed and .wait (9.7.13.3): the whole cluster's barrier, in two halves.
// It orders no memory but mbarriers that fence_mbarrier_init has shown.
__device__ inline void barrier_cluster_arrive() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ inline void barrier_cluster_wait() {
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}

}  // namespace qkv::ptx
