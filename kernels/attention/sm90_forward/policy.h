// sm90_forward's tiles, stages and registers, for the host's plan and the kernel.
#pragma once

#include <cstdint>

namespace qkv::kernels {

inline constexpr int32_t kSm90Dim = 128;     // head dims in shared memory: smaller ones are padded
inline constexpr int32_t kSm90TileQ = 128;   // query rows of a tile
inline constexpr int32_t kSm90TileKv = 128;  // keys of a block
inline constexpr int32_t kSm90QStages = 2;   // buffers of Q
inline constexpr int32_t kSm90KvStages = 5;  // buffers that K and V share, an odd number

// Keys of a block whose exponentials come before the wait for P V of the block before. On an H100,
// bf16, TFLOP/s at 16384 tokens
// (bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-variants.json):
//
//   keys before the wait   128   64   48   32
//   full, s 4096           628  660  668  662
//   causal, s 16384        570  622  636  630
inline constexpr int32_t kSm90KeysBeforePv = 48;

// Two math warpgroups, and a producer warpgroup of which one warp works.
inline constexpr int32_t kSm90MathWarpgroups = 2;
inline constexpr int32_t kSm90WarpgroupThreads = 128;
inline constexpr int32_t kSm90MathThreads = kSm90MathWarpgroups * kSm90WarpgroupThreads;
inline constexpr int32_t kSm90Threads = kSm90MathThreads + kSm90WarpgroupThreads;
inline constexpr int32_t kSm90MathWarps = kSm90MathThreads / 32;

// A math warpgroup multiplies kSm90Rows x kSm90TileKv by one wgmma m64n128k16 for 16 dims, and
// kSm90Rows x kSm90Dim by one for 16 keys.
inline constexpr int32_t kSm90Rows = kSm90TileQ / kSm90MathWarpgroups;
inline constexpr int32_t kSm90WarpRows = kSm90Rows / 4;  // a warp's share of them

// Tiles in shared memory are as TMA's 128-byte swizzle leaves them: panels of 64 dims, of which a
// row has 128 bytes.
inline constexpr int32_t kSm90PanelBytes = 128;
inline constexpr int32_t kSm90Panel = kSm90PanelBytes / 2;
inline constexpr int32_t kSm90Panels = kSm90Dim / kSm90Panel;

// Per thread. The launch gives each thread 168, 65536 / 384 rounded down to a multiple of 8;
// setmaxnreg moves what the producer does not need to the math warpgroups.
inline constexpr int32_t kSm90LaunchRegisters = 65536 / kSm90Threads / 8 * 8;
inline constexpr int32_t kSm90MathRegisters = 232;
inline constexpr int32_t kSm90ProducerRegisters = 40;

inline constexpr int64_t kSm90MaxTiles = 1 << 30;  // their numbers and a grid more fit 31 bits

// The buffers of Q, and of K and V, 2 bytes an element; 1 KiB of barriers and work.
inline constexpr int32_t kSm90SmemBytes =
    (kSm90QStages * kSm90TileQ + kSm90KvStages * kSm90TileKv) * kSm90Dim * 2 + 1024;

}  // namespace qkv::kernels
