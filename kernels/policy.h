// Tile policies as constexpr values, shared by the host's plan and the kernels. A policy changes
// speed, never results beyond rounding. Every tuned row cites its evidence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace qkv::kernels {

inline constexpr int64_t kMaxBlocks = 0x7fffffff;  // of a grid's x axis

// The simt kernels' tiles in shared memory.
inline constexpr int32_t kSimtChunk = 64;              // dims of Q, K or V at a time
inline constexpr int32_t kSimtPitch = kSimtChunk + 4;  // floats; row r begins on bank 4 r

constexpr size_t simt_smem_bytes(int32_t tile_q, int32_t tile_kv) {
  return sizeof(float) * kSimtPitch * static_cast<size_t>(tile_q + tile_kv);
}

// Blocks of a grid with `per_tile` of them for each tile of query rows; kMaxBlocks + 1 if they do
// not fit.
constexpr int64_t grid_blocks(int32_t tile_q, int64_t per_tile, int32_t batch, int32_t heads_q,
                              int32_t s_q) {
  int64_t blocks = (int64_t{s_q} + tile_q - 1) / tile_q;
  for (const int64_t factor : {int64_t{batch}, int64_t{heads_q}, per_tile}) {
    blocks *= factor;
    if (blocks > kMaxBlocks) return kMaxBlocks + 1;
  }
  return blocks;
}

// simt_forward: `threads` = 16 lanes of columns x (threads / 16) groups of rows. Only d_v needs a
// bucket: O lives in registers. d_qk is walked in chunks.
struct SimtForwardPolicy {
  int32_t max_dim;     // serves d_v up to this
  int32_t tile_q;      // query rows of a block
  int32_t tile_kv;     // keys of a step
  int32_t threads;     // of a block
  int32_t min_blocks;  // resident on a multiprocessor as far as registers go: bounds the registers
};

// Untuned. A thread holds tile_q / groups rows of O and tile_kv / 16 columns of S: the largest tile
// that ptxas keeps in registers on every architecture.
inline constexpr SimtForwardPolicy kSimtForwardPolicies[] = {
    {64, 64, 64, 128, 3},
    {128, 64, 64, 128, 2},
    {256, 48, 64, 128, 2},
    {576, 32, 64, 128, 2},
};

inline constexpr int32_t kSimtForwardMaxDim = 576;  // of d_qk and d_v

// The policy that serves d_v, 0 <= d_v <= kSimtForwardMaxDim.
constexpr SimtForwardPolicy simt_forward_policy(int32_t d_v) {
  for (const SimtForwardPolicy& policy : kSimtForwardPolicies)
    if (d_v <= policy.max_dim) return policy;
  return {};
}

// simt_general: the same tiles for everything. A block serves kSimtGeneralSlice columns of V and O:
// wider ones are as many blocks, each with all of the scores.
inline constexpr int32_t kSimtGeneralTileQ = 32;
inline constexpr int32_t kSimtGeneralTileKv = 64;
inline constexpr int32_t kSimtGeneralThreads = 128;
inline constexpr int32_t kSimtGeneralSlice = 128;
inline constexpr int32_t kSimtGeneralWeightBytes = sizeof(float) * kSimtChunk;  // additive scores

// Blocks for each tile of query rows. Hard selection copies rows of V, whatever their width.
constexpr int64_t simt_general_slices(bool hard, int64_t d_v) {
  const int64_t slices = (d_v + kSimtGeneralSlice - 1) / kSimtGeneralSlice;
  return hard || slices == 0 ? 1 : slices;
}

// sm80_forward: four warps, each with tile_q / 4 query rows. max_dim serves d_qk and d_v: Q, K and
// V are padded to it in shared memory, O in registers. Which variant runs is the wave model's
// choice (host/wave_model.h), but for rules, which the problem decides.
enum class Sm80Variant : int32_t {
  kTall,   // the most rows: K and V are read least often
  kShort,  // 64 rows: few queries, and two blocks where a multiprocessor has 100 KiB
  kRules,  // with softcap, mask, bias and ALiBi, whose addresses take registers
};

struct Sm80ForwardPolicy {
  int32_t max_dim;
  Sm80Variant variant;
  int32_t tile_q;      // query rows of a block
  int32_t tile_kv;     // keys of a step
  int32_t min_blocks;  // resident on a multiprocessor as far as registers go
};

// Untimed. A lane holds tile_q * max_dim / 128 floats of O and tile_q * tile_kv / 128 of S. Tall:
// the largest tiles that ptxas keeps in 255 registers on every architecture (128 x 64 at width 128
// spills 20 to 44 bytes). Blocks on a multiprocessor by shared memory, each with 1 KiB that CUDA
// takes, where a multiprocessor has 164 KiB or more (sm_80, 90, 100) and where it has 100 (sm_86,
// 89, 120):
//
//   width      64 tall  64 short  128 tall  128 short  256
//   KiB            32        24        56         48    96
//   of 164          4         6         2          3     1
//   of 100          3         4         1          2     1
//
// One block is one warp on each scheduler, which stands still while its warp waits for a copy, a
// shuffle or an exponential. At width 128 the short tile is therefore the better one where there
// are 100 KiB: its 1024 cycles of ldmatrix for 64 keys (4 warps x 32 KiB at 128 bytes a cycle) hide
// behind the 2048 of mma at the 256 to 512 multiply-adds a cycle of these devices. At 1024 a cycle
// (sm_80, 90) they do not: there the tall one reads 512 cycles' worth for the same rows and keys.
inline constexpr Sm80ForwardPolicy kSm80ForwardPolicies[] = {
    {64, Sm80Variant::kTall, 128, 64, 2},  {128, Sm80Variant::kTall, 128, 48, 2},
    {256, Sm80Variant::kTall, 64, 64, 1},  {64, Sm80Variant::kShort, 64, 64, 3},
    {128, Sm80Variant::kShort, 64, 64, 3}, {64, Sm80Variant::kRules, 64, 64, 2},
    {128, Sm80Variant::kRules, 64, 64, 2}, {256, Sm80Variant::kRules, 64, 32, 1},
};

inline constexpr int32_t kSm80ForwardMaxDim = 256;
inline constexpr int32_t kSm80Threads = 128;

// The policy that serves dims up to `dim`, 0 <= dim <= kSm80ForwardMaxDim; max_dim 0: there is
// none.
constexpr Sm80ForwardPolicy sm80_forward_policy(int32_t dim, Sm80Variant variant) {
  for (const Sm80ForwardPolicy& policy : kSm80ForwardPolicies)
    if (dim <= policy.max_dim && policy.variant == variant) return policy;
  return {};
}

// Dynamic shared memory of a block in bytes: a tile of Q, one of K, one of V.
constexpr size_t sm80_forward_smem_bytes(const Sm80ForwardPolicy& policy) {
  return size_t{2} * static_cast<size_t>(policy.max_dim) *
         static_cast<size_t>(policy.tile_q + 2 * policy.tile_kv);
}

// sm80_tf32x3: four warps, each with 16 query rows. max_dim serves d_qk and d_v: Q, K and V are
// padded to it in shared memory, O in registers.
//
// Why, in multiply-adds per clock and multiprocessor (whitepapers of GA100, GH100, GA102, AD102 and
// GB202; of Hopper's 1024 in tf32, mma.sync is reported to reach 62 %):
//
//                          fp32   tf32   tf32 / 3.25: three products, and V's last bits in bf16
//   sm_80                    64    512   157, 2.5 times fp32
//   sm_90                   128    640   197, 1.5 times fp32
//   sm_86, sm_89, sm_120    128    128 (GeForce) to 256    39 to 79: fp32 wins
//
// 16 rows by 32 keys of width 128 are 416 products by tensor cores: 3328 cycles of a sub-core of
// sm_80, 2662 of sm_90. They come with some 2300 other instructions as compiled (921 in all for
// Q K^T, 1115 for P V; splitting takes most), so that a sub-core, which issues one a cycle, is at
// 81 % of that on sm_80 and level with it on sm_90. The four warps read and write 1664 wavefronts
// of shared memory. Padding wastes products: the host declines below two thirds. Untimed.
//
// Shared memory: 40 KiB at width 64, 72 KiB at 128 (52 with rules). Registers let two blocks
// reside.
struct Sm80Tf32x3Policy {
  int32_t max_dim;
  bool rules;          // as above
  int32_t tile_kv;     // keys of a step
  int32_t min_blocks;  // resident on a multiprocessor as far as registers go
};

inline constexpr Sm80Tf32x3Policy kSm80Tf32x3Policies[] = {
    {64, false, 32, 2},
    {128, false, 32, 2},
    {64, true, 32, 2},
    {128, true, 16, 2},
};

inline constexpr int32_t kSm80Tf32x3MaxDim = 128;
inline constexpr int32_t kSm80Tf32x3TileQ = 64;

// The policy that serves dims up to `dim`, 0 <= dim <= kSm80Tf32x3MaxDim.
constexpr Sm80Tf32x3Policy sm80_tf32x3_policy(int32_t dim, bool rules) {
  for (const Sm80Tf32x3Policy& policy : kSm80Tf32x3Policies)
    if (dim <= policy.max_dim && policy.rules == rules) return policy;
  return {};
}

// Dynamic shared memory of a block in bytes: a tile of Q, one of K, one of V, one of P.
constexpr size_t sm80_tf32x3_smem_bytes(const Sm80Tf32x3Policy& policy) {
  return size_t{4} * static_cast<size_t>(policy.max_dim * (kSm80Tf32x3TileQ + 2 * policy.tile_kv) +
                                         kSm80Tf32x3TileQ * policy.tile_kv);
}

// sm90_forward: a producer warpgroup, of which one warp works, and two that compute. 128 x 128
// tiles for head dims up to 128.
inline constexpr int32_t kSm90Dim = 128;
inline constexpr int32_t kSm90TileQ = 128;
inline constexpr int32_t kSm90TileKv = 128;
inline constexpr int32_t kSm90MathWarpgroups = 2;
inline constexpr int32_t kSm90Threads = 128 * (kSm90MathWarpgroups + 1);
// Per thread. The launch gives 168 to each, 3 x 168 = 504: what the producer does without, the
// others get.
inline constexpr int32_t kSm90MathRegisters = 232;
inline constexpr int32_t kSm90ProducerRegisters = 40;
inline constexpr int64_t kSm90MaxTiles = 1 << 30;  // their numbers and a grid more fit 31 bits
// Two places of Q, K and V and one of O, 32 KiB each; barriers.
inline constexpr int32_t kSm90SmemBytes = 7 * 32768 + 1024;

}  // namespace qkv::kernels
