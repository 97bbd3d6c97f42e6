// sm80_tf32x3's tiles, for the host's plan and the kernel.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qkv::kernels {

// Four warps, each with 16 query rows. max_dim serves d_qk and d_v: Q, K and V are padded to it in
// shared memory, O in registers.
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
  bool rules;          // softcap, mask, bias and ALiBi are looked at
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
inline constexpr int32_t kSm80Tf32x3Threads = 128;

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

}  // namespace qkv::kernels
