// sm80_hard's tiles, for the host's plan and the kernel. A policy changes speed, never results: a
// score is the same in every tile, and a maximum does not depend on the order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qkv::kernels {

// Four warps, each with tile_q / 4 query rows. Q is padded to max_dim in registers, K in shared
// memory; V's width does not matter.
struct Sm80HardPolicy {
  int32_t max_dim;
  bool rules;          // softcap, mask, bias, ALiBi
  int32_t tile_q;      // query rows of a block
  int32_t tile_kv;     // keys of a step
  int32_t min_blocks;  // resident on a multiprocessor as far as registers go
};

inline constexpr Sm80HardPolicy kSm80HardPolicies[] = {
    {64, false, 128, 64, 3}, {128, false, 128, 64, 3}, {256, false, 128, 64, 1},
    {64, true, 64, 32, 4},   {128, true, 64, 32, 3},   {256, true, 64, 32, 2},
};

inline constexpr int32_t kSm80HardMaxDim = 256;
inline constexpr int32_t kSm80HardThreads = 128;
inline constexpr int32_t kSm80HardStages = 3;  // tiles of K; at first Q lies in two of them

// The policy that serves widths d_qk up to `dim`, 0 <= dim <= kSm80HardMaxDim; max_dim 0: there is
// none.
constexpr Sm80HardPolicy sm80_hard_policy(int32_t dim, bool rules) {
  for (const Sm80HardPolicy& policy : kSm80HardPolicies)
    if (dim <= policy.max_dim && policy.rules == rules) return policy;
  return {};
}

// Dynamic shared memory of a block in bytes.
constexpr size_t sm80_hard_smem_bytes(const Sm80HardPolicy& policy) {
  return size_t{2} * static_cast<size_t>(policy.max_dim) *
         static_cast<size_t>(kSm80HardStages * policy.tile_kv);
}

}  // namespace qkv::kernels
