// Rows of numbers between the problem's types and fp32. Reads and writes exactly `n` elements.
#pragma once

#include <cstdint>

#include "qkv/qkv.h"

namespace qkv::cpu {

// out[i] = in[i * stride] as fp32, of f32, f16 or bf16.
void to_float(const void* in, qkv_type type, int64_t stride, int64_t n, float* out);

// out[i * stride] = in[i], rounded to nearest even to f32, f16 or bf16.
void from_float(const float* in, int64_t n, void* out, qkv_type type, int64_t stride);

// out[i] = in[i] / divisor, rounded once.
void divide(const float* in, int64_t n, float divisor, void* out, qkv_type type);

}  // namespace qkv::cpu
