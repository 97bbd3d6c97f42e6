// A projection on the CPU with OpenBLAS: one SGEMM of its own threads, then the bias in a pass of
// its own; 16-bit types are widened before and rounded after, as whoever has no kernel for them
// does.
#pragma once

#include <cstddef>
#include <cstdint>

#include "qkv/qkv.h"

namespace qkv::bench {

struct PlainProduct {
  qkv_type type = QKV_TYPE_F32;
  int64_t rows = 0, in = 0, out = 0;  // x [rows, in] and y [rows, out] are contiguous
  bool by_out = true;                 // weight as contiguous [out, in], else [in, out]
  bool bias = false;
};

// Bytes that a run works in.
size_t workspace_bytes(const PlainProduct& product);

void run(const PlainProduct& product, const void* x, const void* weight, const void* bias, void* y,
         void* workspace, int threads);

}  // namespace qkv::bench
