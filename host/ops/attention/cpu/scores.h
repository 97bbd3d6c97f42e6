// The additive score, and what happens to a scaled score before the selection: softcap, bias,
// ALiBi, mask. Highway kernels, chosen for the machine at run time. Arrays are 64-byte aligned and
// `n` is a multiple of kLanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/core/cpu/targets.h"

namespace qkv::cpu {

// s[r, j] = sum_d w[d] tanh(q[r, d] + k[j, d]) for j < keys, a multiple of kLanes. q [rows, d] and
// k [keys, d] and w are padded with zeros to `d`, a multiple of kLanes; rows of s are `keys` apart.
// tanh errs by at most 2^-21, whatever its argument; NaN and infinity go through it as through
// tanh. A score depends on its own row, key and w alone.
void additive_scores(const float* q, const float* k, const float* w, int64_t rows, int64_t keys,
                     int64_t d, float* s, std::byte* scratch);

// 64-byte aligned, for so many rows.
constexpr size_t additive_scratch_bytes(int64_t rows, int64_t d) {
  return static_cast<size_t>(d * (rows + kLanes + 1) + rows) * sizeof(float);
}

void scale(float* s, int64_t n, float factor);

// s = cap * tanh(s / cap)
void softcap(float* s, int64_t n, float cap);

void add_bias(float* s, int64_t n, const float* bias);

// s[j] -= slope * |diagonal - j|
void subtract_alibi(float* s, int64_t n, float slope, int64_t diagonal);

// s[j] = value where visible[j] is 0
void hide(float* s, int64_t n, const uint8_t* visible, float value);

// For tests: tanh of n floats.
void tanh_array(const float* x, float* y, int64_t n);

}  // namespace qkv::cpu
