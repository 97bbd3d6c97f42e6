// Shared memory of the kernels that compute on plain CUDA cores (core/simt_tile.cuh), for their
// policies and the host's plan.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qkv::kernels {

inline constexpr int32_t kSimtChunk = 64;              // dims of Q, K or V at a time
inline constexpr int32_t kSimtPitch = kSimtChunk + 4;  // floats of a row, which begins on bank 4 r

// A tile of Q, which P and O replace, and one of K, which V replaces.
constexpr size_t simt_smem_bytes(int32_t tile_q, int32_t tile_kv) {
  return sizeof(float) * kSimtPitch * static_cast<size_t>(tile_q + tile_kv);
}

}  // namespace qkv::kernels
