// Moves: the instructions [first, middle) change places with [middle, last).
#pragma once

#include "machine/ir.h"

namespace vgpu {

struct Move {
  u32 first = 0, middle = 0, last = 0;
  bool exists() const { return last != 0; }
};

// The fence, wait or expect_tx at `pc` behind the next instruction for which it matters; a wait at
// an mbarrier with its whole loop. There is none where branches other than those over a few
// instructions stand between, or where registers forbid it.
Move delay(const Program& program, u32 pc);
// The arrival or commit at `pc` in front of what it makes known, on the same conditions.
Move advance(const Program& program, u32 pc);
void apply(const Move& move, Program& program);

bool is_fence(const Instr& in);  // of a proxy, of mbarriers' initialisation
bool has(const Instr& in, std::string_view word);

}  // namespace vgpu
