// Integer halves of opcodes that exist for integers and floating point alike.
#pragma once

#include "machine/ops/ops.h"

namespace vgpu::ops {

bool decode_integer_mul(Decoder&, const ptx::Statement&, Modifiers&, Instr&, bool mad);
void decode_integer_add(Decoder&, const ptx::Statement&, Modifiers&, Instr&);
void decode_integer_sub(Decoder&, const ptx::Statement&, Modifiers&, Instr&);
void decode_integer_min(Decoder&, const ptx::Statement&, Modifiers&, Instr&);
void decode_integer_max(Decoder&, const ptx::Statement&, Modifiers&, Instr&);
void decode_integer_abs(Decoder&, const ptx::Statement&, Modifiers&, Instr&);
void decode_integer_neg(Decoder&, const ptx::Statement&, Modifiers&, Instr&);
void decode_integer_div(Decoder&, const ptx::Statement&, Modifiers&, Instr&);
// True when the opcode has .cc and was taken.
bool decode_carry_form(Decoder&, const ptx::Statement&, Modifiers&, Instr&);

// Floating-point halves: 16-bit types, by one family; false when the type is none of its own.
bool decode_half_arithmetic(Decoder&, const ptx::Statement&, Modifiers&, Instr&);

}  // namespace vgpu::ops
