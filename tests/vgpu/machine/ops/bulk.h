// Bulk copies, between decoding and execution.
#pragma once

#include "machine/ir.h"

namespace vgpu::ops {

// add, min, max, inc, dec, and, or, xor: numbers that atomics share.
inline constexpr u8 kReductions = 8;

void exec_bulk_load(Warp& w, const Instr& in, u32 mask);  // into shared memory
void exec_bulk_store(Warp& w, const Instr& in, u32 mask);
void exec_bulk_reduce_tensor(Warp& w, const Instr& in, u32 mask);
void exec_bulk_prefetch(Warp& w, const Instr& in, u32 mask);
void exec_bulk_commit(Warp& w, const Instr& in, u32 mask);
void exec_bulk_wait(Warp& w, const Instr& in, u32 mask);
void exec_async_value(Warp& w, const Instr& in, u32 mask);

}  // namespace vgpu::ops
