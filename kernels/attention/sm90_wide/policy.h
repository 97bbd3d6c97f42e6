// sm90_wide's tiles, stages and registers, for the host's plan and the kernel.
#pragma once

#include <cstdint>

namespace qkv::kernels {

inline constexpr int32_t kSm90WideDim = 512;        // the widest head dim
inline constexpr int32_t kSm90WideRows = 64;        // query rows of a thread block's tile
inline constexpr int32_t kSm90WideTileKv = 128;     // keys of a block
inline constexpr int32_t kSm90WideMostCluster = 2;  // thread blocks that share K and V, at most

// Two math warpgroups, and a producer warpgroup of which one warp works.
inline constexpr int32_t kSm90WideWarpgroupThreads = 128;
inline constexpr int32_t kSm90WideThreads = 3 * kSm90WideWarpgroupThreads;
inline constexpr int32_t kSm90WideWarpRows = kSm90WideRows / 4;

// Tiles in shared memory are as TMA's 128-byte swizzle leaves them: panels of 64 dims, of which a
// row has 128 bytes. A math warpgroup sums kSm90WideHalf panels of O.
inline constexpr int32_t kSm90WidePanelBytes = 128;
inline constexpr int32_t kSm90WidePanel = kSm90WidePanelBytes / 2;
inline constexpr int32_t kSm90WidePanels = kSm90WideDim / kSm90WidePanel;
inline constexpr int32_t kSm90WideHalf = kSm90WidePanels / 2;

// K and V come in pieces of 16 KiB through one ring: a panel of K with the block's 128 keys, or 32
// keys of V with one warpgroup's panels. Each is four boxes of 32 keys by 64 dims.
inline constexpr int32_t kSm90WideBoxKeys = 32;
inline constexpr int32_t kSm90WideBoxBytes = kSm90WideBoxKeys * kSm90WidePanelBytes;
inline constexpr int32_t kSm90WideBoxes = 4;
inline constexpr int32_t kSm90WidePieceBytes = kSm90WideBoxes * kSm90WideBoxBytes;
inline constexpr int32_t kSm90WidePiecesV = kSm90WideTileKv / kSm90WideBoxKeys;  // of a warpgroup
inline constexpr int32_t kSm90WideStages = 8;                                    // of the ring

// Per thread. The launch gives each thread 168, 65536 / 384 rounded down to a multiple of 8;
// setmaxnreg moves what the others do not need to warpgroup 0, which holds S beside its half of O.
inline constexpr int32_t kSm90WideLaunchRegisters = 65536 / kSm90WideThreads / 8 * 8;
inline constexpr int32_t kSm90WideRegisters0 = 240;
inline constexpr int32_t kSm90WideRegisters1 = 208;
inline constexpr int32_t kSm90WideProducerRegisters = 56;

// Q, the ring, two buffers of P; 1 KiB of barriers and what warpgroup 0 tells of rows.
inline constexpr int32_t kSm90WideSmemBytes = kSm90WideRows * kSm90WideDim * 2 +
                                              kSm90WideStages * kSm90WidePieceBytes +
                                              2 * kSm90WideRows * kSm90WideTileKv * 2 + 1024;

}  // namespace qkv::kernels
