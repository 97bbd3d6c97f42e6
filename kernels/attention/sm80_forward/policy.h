// sm80_forward's tiles, for the host's plan and the kernel. A policy changes speed, never results
// beyond rounding. Every tuned row cites its evidence.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qkv::kernels {

// Which variant runs is the wave model's choice (the host's wave_model.h), but for rules, which the
// problem decides.
enum class Sm80Variant : int32_t {
  kTall,   // the most query rows: K and V are read least often
  kShort,  // 64 rows: few queries, and two blocks where a multiprocessor has 100 KiB
  kRules,  // with softcap, mask, bias and ALiBi, whose addresses take registers
};

// Four warps, each with tile_q / 4 query rows. max_dim serves d_qk and d_v: Q, K and V are padded
// to it in shared memory, O in registers.
struct Sm80ForwardPolicy {
  int32_t max_dim;
  Sm80Variant variant;
  int32_t tile_q;      // query rows of a block
  int32_t tile_kv;     // keys of a step
  int32_t stages;      // buffers of K and of V, 1 or 2
  int32_t min_blocks;  // resident on a multiprocessor as far as registers go
};

// Untimed. A lane holds tile_q * max_dim / 128 floats of O and tile_q * tile_kv / 128 of S. Tall:
// the largest tiles that ptxas keeps in 255 registers on every architecture (128 x 64 at width 128
// spills 12 bytes). Blocks on a multiprocessor by shared memory, each with 1 KiB that CUDA takes,
// where a multiprocessor has 164 KiB or more (sm_80, 90, 100) and where it has 100 (sm_86, 89,
// 120):
//
//   width      64 tall  64 short  128 tall  128 short  256
//   KiB            48        24        80         48    96
//   of 164          3         6         2          3     1
//   of 100          2         4         1          2     1
//
// Two stages of K and V where they cost no resident block: the copies of a block have a whole step
// to arrive, and a step has one barrier instead of two.
//
// One block is one warp on each scheduler, which stands still while its warp waits for a copy, a
// shuffle or an exponential. At width 128 the short tile is therefore the better one where there
// are 100 KiB: its 1024 cycles of ldmatrix for 64 keys (4 warps x 32 KiB at 128 bytes a cycle) hide
// behind the 2048 of mma at the 256 to 512 multiply-adds a cycle of these devices. At 1024 a cycle
// (sm_80, 90) they do not: there the tall one reads 512 cycles' worth for the same rows and keys.
inline constexpr Sm80ForwardPolicy kSm80ForwardPolicies[] = {
    {64, Sm80Variant::kTall, 128, 64, 2, 2},  {128, Sm80Variant::kTall, 128, 48, 2, 2},
    {256, Sm80Variant::kTall, 64, 64, 1, 1},  {64, Sm80Variant::kShort, 64, 64, 1, 3},
    {128, Sm80Variant::kShort, 64, 64, 1, 3}, {64, Sm80Variant::kRules, 64, 64, 1, 2},
    {128, Sm80Variant::kRules, 64, 64, 1, 2}, {256, Sm80Variant::kRules, 64, 32, 1, 1},
};

inline constexpr int32_t kSm80ForwardMaxDim = 256;
inline constexpr int32_t kSm80ForwardThreads = 128;

// The policy that serves dims up to `dim`, 0 <= dim <= kSm80ForwardMaxDim; max_dim 0: there is
// none.
constexpr Sm80ForwardPolicy sm80_forward_policy(int32_t dim, Sm80Variant variant) {
  for (const Sm80ForwardPolicy& policy : kSm80ForwardPolicies)
    if (dim <= policy.max_dim && policy.variant == variant) return policy;
  return {};
}

// Whether ptxas has registers for what saves time. The plan runs the other tile on such a device.
constexpr bool sm80_spare_registers([[maybe_unused]] bool f16,
                                    [[maybe_unused]] const Sm80ForwardPolicy& policy) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
  return !f16 || policy.max_dim != 128 || policy.variant != Sm80Variant::kTall;
#else
  return true;
#endif
}

// Dynamic shared memory of a block in bytes: a tile of Q, `stages` each of K and V.
constexpr size_t sm80_forward_smem_bytes(const Sm80ForwardPolicy& policy) {
  return size_t{2} * static_cast<size_t>(policy.max_dim) *
         static_cast<size_t>(policy.tile_q + 2 * policy.stages * policy.tile_kv);
}

}  // namespace qkv::kernels
