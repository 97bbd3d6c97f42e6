// sm90_forward's tiles, stages and registers, for the host's plan and the kernel. Untimed.
#pragma once

#include <cstdint>

namespace qkv::kernels {

inline constexpr int32_t kSm90Dim = 128;     // head dims in shared memory: smaller ones are padded
inline constexpr int32_t kSm90TileQ = 128;   // query rows of a tile
inline constexpr int32_t kSm90TileKv = 128;  // keys of a block
inline constexpr int32_t kSm90Stages = 2;    // buffers each of Q, K and V

// Two math warpgroups, and a producer warpgroup of which one warp works.
inline constexpr int32_t kSm90MathWarpgroups = 2;
inline constexpr int32_t kSm90WarpgroupThreads = 128;
inline constexpr int32_t kSm90MathThreads = kSm90MathWarpgroups * kSm90WarpgroupThreads;
inline constexpr int32_t kSm90Threads = kSm90MathThreads + kSm90WarpgroupThreads;
inline constexpr int32_t kSm90Rows = kSm90TileQ / kSm90MathWarpgroups;  // of a math warpgroup

// Per thread. The launch gives 168 to each, 3 x 168 = 504: setmaxnreg moves what the producer does
// not need to the math warpgroups.
inline constexpr int32_t kSm90MathRegisters = 232;
inline constexpr int32_t kSm90ProducerRegisters = 40;

inline constexpr int64_t kSm90MaxTiles = 1 << 30;  // their numbers and a grid more fit 31 bits

// The stages of Q, K and V, and one buffer of O, 2 bytes an element; 1 KiB of barriers and work.
inline constexpr int32_t kSm90SmemBytes =
    (kSm90Stages * (kSm90TileQ + 2 * kSm90TileKv) + kSm90TileQ) * kSm90Dim * 2 + 1024;

}  // namespace qkv::kernels
