// simt_additive's tiles, for the host's plan and the kernel, and the range of the rational form.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qkv::kernels {

// A thread has 8 rows by 4 keys of S, and 8 rows by 4 columns of each 64 of O: 96 registers, beside
// those of a step's operands and of the rows' softmax more than the 168 that would let three blocks
// reside. Two have their shared memory on every device.
inline constexpr int32_t kSimtAdditiveTileQ = 64;
inline constexpr int32_t kSimtAdditiveTileKv = 64;
inline constexpr int32_t kSimtAdditiveThreads = 128;
inline constexpr int32_t kSimtAdditiveMinBlocks = 2;  // on a multiprocessor as far as registers go
inline constexpr int32_t kSimtAdditiveMaxDim = 128;   // of d_v; d_qk may be any

inline constexpr int32_t kSimtAdditiveChunk = 32;    // dims whose features are there at once
inline constexpr int32_t kSimtAdditiveKeysOfV = 32;  // rows of V that are there at once
inline constexpr int32_t kSimtAdditiveColumns = 64;  // of V and O at once

// Bytes of a block's shared memory: P, in whose place features of Q and rows of O are, too;
// features of K, then V; weights and what they come to; marks of what is out of range.
constexpr int32_t simt_additive_smem_bytes() {
  constexpr int32_t kP = kSimtAdditiveTileQ * (kSimtAdditiveTileKv + 4);
  constexpr int32_t kK = kSimtAdditiveTileKv * (kSimtAdditiveChunk + 4);
  constexpr int32_t kMarks = (kSimtAdditiveTileQ + kSimtAdditiveTileKv) / 32;
  return (4 * (kP + kK + kSimtAdditiveChunk + 2 + kMarks) + 15) / 16 * 16;
}

}  // namespace qkv::kernels
