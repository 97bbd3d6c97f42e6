// sm80_tf32x3_hard's tiles, for the host's plan and the kernel. A policy changes speed, never
// results: a score is the same in every tile, and a maximum does not depend on the order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qkv::kernels {

// Four warps, each with 16 query rows. Q and K are padded to max_dim in shared memory; V's width
// does not matter.
struct Sm80Tf32x3HardPolicy {
  int32_t max_dim;
  bool rules;          // softcap, mask, bias, ALiBi
  int32_t tile_kv;     // keys of a step
  int32_t min_blocks;  // resident on a multiprocessor as far as registers go
};

inline constexpr Sm80Tf32x3HardPolicy kSm80Tf32x3HardPolicies[] = {
    {64, false, 32, 4}, {128, false, 32, 2}, {256, false, 16, 1},
    {64, true, 32, 4},  {128, true, 32, 2},  {256, true, 16, 1},
};

inline constexpr int32_t kSm80Tf32x3HardMaxDim = 256;
inline constexpr int32_t kSm80Tf32x3HardTileQ = 64;
inline constexpr int32_t kSm80Tf32x3HardThreads = 128;
inline constexpr int32_t kSm80Tf32x3HardStages = 3;  // tiles of K

// The policy that serves widths d_qk up to `dim`, 0 <= dim <= kSm80Tf32x3HardMaxDim; max_dim 0:
// there is none.
constexpr Sm80Tf32x3HardPolicy sm80_tf32x3_hard_policy(int32_t dim, bool rules) {
  for (const Sm80Tf32x3HardPolicy& policy : kSm80Tf32x3HardPolicies)
    if (dim <= policy.max_dim && policy.rules == rules) return policy;
  return {};
}

// Dynamic shared memory of a block in bytes: a tile of Q and those of K.
constexpr size_t sm80_tf32x3_hard_smem_bytes(const Sm80Tf32x3HardPolicy& policy) {
  return size_t{4} * static_cast<size_t>(policy.max_dim) *
         static_cast<size_t>(kSm80Tf32x3HardTileQ + kSm80Tf32x3HardStages * policy.tile_kv);
}

}  // namespace qkv::kernels
