// sm90_forward's tiles, stages and registers, for the host's plan and the kernel.
#pragma once

#include <cstdint>

#include "kernels/core/softcap.h"

namespace qkv::kernels {

// A math warpgroup has 64 query rows of a tile, a wgmma's; each of its warps 16.
inline constexpr int32_t kSm90Rows = 64;
inline constexpr int32_t kSm90WarpRows = kSm90Rows / 4;
inline constexpr int32_t kSm90WarpgroupThreads = 128;

// Tiles in shared memory are as TMA's 128-byte swizzle leaves them: panels of 64 dims, of which a
// row has 128 bytes.
inline constexpr int32_t kSm90PanelBytes = 128;
inline constexpr int32_t kSm90Panel = kSm90PanelBytes / 2;

// What stands between Q K^T and the exponentials.
enum class Sm90Variant : int32_t {
  kPlain,    // length, causal mask and window
  kSoftcap,  // and tanh
  kRules,    // and all the rest: mask, bias, ALiBi, a softcap beside them, a large one
};
// `pairs`: there is a mask, a bias or ALiBi.
constexpr Sm90Variant sm90_variant(bool pairs, float softcap) {
  if (pairs || softcap > kLargestFastSoftcap) return Sm90Variant::kRules;
  return softcap > 0 ? Sm90Variant::kSoftcap : Sm90Variant::kPlain;
}

// Which rules a launch has (Sm90ForwardArgs::rules). In pairs: neighbouring keys can be loaded as
// one.
enum Sm90RuleBits : uint32_t {
  kSm90Softcap = 1,
  kSm90Alibi = 2,
  kSm90BiasPairs = 4,  // of Q's type
  kSm90BiasOneByOne = 8,
  kSm90MaskPairs = 16,
  kSm90MaskOneByOne = 32,
};

// What depends on the head dims.
struct Sm90Shape {
  int32_t d_qk, d_v;   // computed with: smaller ones are padded with 0 in shared memory
  int32_t warpgroups;  // that compute, 2 or 3
  int32_t tile_kv;     // keys of a block
  int32_t half;        // keys of a tile's last block that are computed where it sees no more
  int32_t q_stages;    // buffers of Q, 1 or 2
  int32_t kv_stages;   // buffers that K and V share, in turn; an even number if they differ in size
  // Keys of a block whose exponentials come before the wait for P V of the block before. On an
  // H100, bf16, 128 dims, TFLOP/s at 16384 tokens
  // (bench/results/2026-11-28-cuda-nvidia-h100-80gb-hbm3-variants.json):
  //
  //   keys before the wait   128   64   48   32
  //   full, s 4096           628  660  668  662
  //   causal, s 16384        570  622  636  630
  int32_t keys_before_pv;
  // Whether the next tile's first Q K^T is issued beside a tile's epilogue: with two buffers of Q,
  // and registers.
  bool ahead;
  // Of a block of keys, for the plan: what the tensor cores need, or more by the clock in
  // bench/cycles where exponentials hold them up (an estimate).
  int32_t cycles;

  // Whether registers suffice for a softcap.
  constexpr bool takes_softcap() const { return warpgroups == 2; }

  constexpr int32_t tile_q() const { return warpgroups * kSm90Rows; }
  // A producer warpgroup, of which one warp works, comes on top.
  constexpr int32_t math_warps() const { return warpgroups * kSm90WarpgroupThreads / 32; }
  constexpr int32_t threads() const { return (warpgroups + 1) * kSm90WarpgroupThreads; }
  // Registers a thread. The launch gives each the same; setmaxnreg moves what the producer does not
  // need to the math warpgroups.
  constexpr int32_t launch_registers() const { return 65536 / threads() / 8 * 8; }
  constexpr int32_t math_registers() const { return warpgroups == 2 ? 232 : 160; }
  constexpr int32_t producer_registers() const { return warpgroups == 2 ? 40 : 32; }

  constexpr int32_t panels_qk() const { return (d_qk + kSm90Panel - 1) / kSm90Panel; }
  constexpr int32_t panels_v() const { return (d_v + kSm90Panel - 1) / kSm90Panel; }
  constexpr int32_t q_bytes() const { return tile_q() * panels_qk() * kSm90PanelBytes; }
  constexpr int32_t k_bytes() const { return tile_kv * panels_qk() * kSm90PanelBytes; }
  constexpr int32_t v_bytes() const { return tile_kv * panels_v() * kSm90PanelBytes; }
  // Of the buffer `stage` of the ring of K and V: with an even number of buffers the even ones have
  // K, the odd ones V; with an odd number each has both in turn, and both are as large.
  constexpr int32_t kv_offset(int32_t stage) const {
    return k_bytes() == v_bytes() ? stage * k_bytes()
                                  : stage / 2 * (k_bytes() + v_bytes()) + stage % 2 * k_bytes();
  }
  constexpr int32_t kv_bytes() const { return kv_offset(kv_stages); }
  // The buffers; 1 KiB of barriers and work.
  constexpr int32_t smem_bytes() const { return q_stages * q_bytes() + kv_bytes() + 1024; }
};

// A problem takes the first shape that has room for its dims.
inline constexpr Sm90Shape kSm90Shapes[] = {
    {64, 64, 3, 128, 64, 2, 10, 128, false, 1805},  //
    {96, 96, 2, 128, 64, 2, 5, 48, true, 1727},     //
    {128, 128, 2, 128, 64, 2, 5, 48, true, 2048},   //
    {192, 128, 2, 128, 64, 1, 4, 48, false, 2560},  //
    {256, 256, 2, 80, 48, 1, 4, 32, false, 2560},
};
// The same with rules: blocks of fewer keys leave registers for masks and biases on their way; with
// 256 dims of V none are left.
inline constexpr Sm90Shape kSm90RulesShapes[] = {
    {64, 64, 2, 96, 48, 2, 8, 96, false, 1300},    //
    {96, 96, 2, 80, 48, 2, 6, 80, false, 1300},    //
    {128, 128, 2, 80, 48, 2, 6, 80, false, 1500},  //
    {192, 128, 2, 80, 48, 2, 4, 80, false, 1700},  //
};
// Null: none has.
constexpr const Sm90Shape* sm90_shape(int64_t d_qk, int64_t d_v, Sm90Variant variant) {
  const auto first = [&](const auto& shapes) -> const Sm90Shape* {
    for (const Sm90Shape& shape : shapes) {
      if (variant == Sm90Variant::kSoftcap && !shape.takes_softcap()) continue;
      if (d_qk <= shape.d_qk && d_v <= shape.d_v) return &shape;
    }
    return nullptr;
  };
  return variant == Sm90Variant::kRules ? first(kSm90RulesShapes) : first(kSm90Shapes);
}

inline constexpr int64_t kSm90MaxTiles = 1 << 30;  // their numbers and a grid more fit 31 bits

}  // namespace qkv::kernels
