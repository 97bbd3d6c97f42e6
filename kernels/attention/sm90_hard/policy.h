// sm90_hard's tiles and stages, for the host's plan and the kernel. A policy changes speed, never
// results: a score is the same in every tile, and a maximum does not depend on the order.
#pragma once

#include <cstdint>

namespace qkv::kernels {

// Three math warpgroups of 64 query rows each, a wgmma's, and a producer warpgroup of which one
// thread works.
inline constexpr int32_t kSm90HardWarpgroups = 3;
inline constexpr int32_t kSm90HardRows = 64;  // of a warpgroup
inline constexpr int32_t kSm90HardWarpRows = kSm90HardRows / 4;
inline constexpr int32_t kSm90HardTileQ = kSm90HardWarpgroups * kSm90HardRows;
inline constexpr int32_t kSm90HardTileKv = 128;  // keys of a block
inline constexpr int32_t kSm90HardWarpgroupThreads = 128;
inline constexpr int32_t kSm90HardMathWarps = kSm90HardWarpgroups * 4;
inline constexpr int32_t kSm90HardThreads = (kSm90HardWarpgroups + 1) * kSm90HardWarpgroupThreads;

// Tiles in shared memory are as TMA's 128-byte swizzle leaves them: panels of 64 dims, of which a
// row has 128 bytes.
inline constexpr int32_t kSm90HardPanelBytes = 128;
inline constexpr int32_t kSm90HardPanel = kSm90HardPanelBytes / 2;

// What depends on the head dim; V's width does not matter.
struct Sm90HardShape {
  int32_t dim;       // computed with: smaller ones are padded with 0 in shared memory
  int32_t q_stages;  // buffers of Q
  int32_t k_stages;  // buffers of K
  // Of a block of keys, for the plan: what the tensor cores need, or more by the clock in
  // bench/cycles (an estimate).
  int32_t cycles;

  constexpr int32_t panels() const { return (dim + kSm90HardPanel - 1) / kSm90HardPanel; }
  constexpr int32_t q_bytes() const { return kSm90HardTileQ * panels() * kSm90HardPanelBytes; }
  constexpr int32_t k_bytes() const { return kSm90HardTileKv * panels() * kSm90HardPanelBytes; }
  // The buffers; 1 KiB of barriers and work.
  constexpr int32_t smem_bytes() const {
    return q_stages * q_bytes() + k_stages * k_bytes() + 1024;
  }
};

// A problem takes the first shape that has room for its d_qk.
inline constexpr Sm90HardShape kSm90HardShapes[] = {
    {64, 2, 11, 768}, {96, 2, 4, 1152}, {128, 2, 4, 1536}, {192, 1, 3, 2304}, {256, 1, 2, 3072},
};
inline constexpr int32_t kSm90HardMaxDim = 256;

// Null: none has.
constexpr const Sm90HardShape* sm90_hard_shape(int64_t dim) {
  for (const Sm90HardShape& shape : kSm90HardShapes)
    if (dim <= shape.dim) return &shape;
  return nullptr;
}

// Fewer rows with the same keys than a warpgroup has are left to sm80_hard: there K's way from
// memory takes longer than the products, by whichever instruction.
inline constexpr int64_t kSm90HardLeastRows = kSm90HardRows;

inline constexpr int64_t kSm90HardMaxTiles = 1 << 30;  // their numbers and a grid more fit 31 bits

}  // namespace qkv::kernels
