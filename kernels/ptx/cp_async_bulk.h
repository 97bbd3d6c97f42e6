// Copies of whole boxes by the tensor memory accelerator (PTX ISA 9.7.9.25.5). A map says how the
// tensor lies in memory and how large its box is; coordinates are in elements, innermost first, and
// may lie outside of the tensor: 0 is read there, nothing written. One thread starts a copy.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace qkv::ptx {

// prefetch.tensormap (9.7.9.15)
__device__ inline void prefetch_tensormap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// What a copy leaves in L2: the encodings of createpolicy.fractional (9.7.9.18) with fraction 1.
inline constexpr uint64_t kEvictFirst = 0x12f0000000000000;
inline constexpr uint64_t kEvictLast = 0x14f0000000000000;

// cp.async.bulk.tensor.5d (9.7.9.25.5.2) from global to shared memory; `barrier` counts its bytes.
__device__ inline void cp_async_bulk_tensor_load(uint32_t to, const CUtensorMap* map,
                                                 const int32_t (&at)[5], uint32_t barrier,
                                                 uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%2, %3, %4, %5, %6}], [%7], %8;" ::"r"(to),
      "l"(map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(barrier),
      "l"(policy)
      : "memory");
}

// The same into every block of the cluster whose bit is set in `blocks`: at the same place of its
// shared memory, counted by the barrier at the same place.
__device__ inline void cp_async_bulk_tensor_load_multicast(uint32_t to, const CUtensorMap* map,
                                                           const int32_t (&at)[5], uint32_t barrier,
                                                           uint16_t blocks, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster.L2::cache_hint [%0], [%1, {%2, %3, %4, %5, %6}], [%7], %8, %9;" ::"r"(
          to),
      "l"(map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(barrier),
      "h"(blocks), "l"(policy)
      : "memory");
}

// One box from shared to global memory.
__device__ inline void cp_async_bulk_tensor_store(const CUtensorMap* map, const int32_t (&at)[5],
                                                  uint32_t from) {
  asm volatile(
      "cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4, %5}], "
      "[%6];" ::"l"(map),
      "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(from)
      : "memory");
}

// cp.async.bulk.commit_group (9.7.9.25.6.1): this thread's stores so far are one group.
__device__ inline void cp_async_bulk_commit_group() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// cp.async.bulk.wait_group.read (9.7.9.25.6.2): all stores of this thread have read their source.
__device__ inline void cp_async_bulk_wait_group_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

// The same without .read: they are done.
__device__ inline void cp_async_bulk_wait_group() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// fence.proxy.async (9.7.13.4): ordinary writes to shared memory, by this thread or seen by it,
// become visible to the asynchronous proxy: to wgmma and to TMA copies that are started later.
__device__ inline void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace qkv::ptx
