// Mutation: one change to one kernel at load. What the tests do not notice is a test that is
// missing.
//
// Candidates are numbered over a whole program run by (kernel name, instruction), in an order that
// does not depend on the seed, so that a number names the same mutant in every run.
#pragma once

#include <string>
#include <vector>

#include "machine/ir.h"
#include "mutate/move.h"

namespace vgpu {

struct Mutant {
  enum class Kind : u8 {
    kDropBarrier,
    kDropWait,
    kDropCommit,
    kFlipGuard,
    kDropFence,
    kDelayFence,  // behind the next instruction for which it matters
    kDelayWait,
    kDelayExpect,
    kAdvanceArrive,  // in front of the last instruction that it makes known
    kAdvanceCommit,
    kDropArrive,
    kDropExpect,  // of the bytes; the arrival stays
    kHalveExpect,
    kFlipPhase,  // the parity that a wait waits for
    kRaiseWait,  // by one group
  };
  Kind kind;
  std::string kernel;
  u32 pc = 0;
  u32 line = 0;
  std::string text, source;
  Move move;  // of kinds that delay or advance

  std::string str() const;
};

// Everything in the program that can be mutated.
std::vector<Mutant> find_mutants(const Program& program);
void apply(const Mutant& mutant, Program& program);

// What a run is asked to do: collect candidates, or apply the one with this key.
struct Mutation {
  bool collect = false;
  std::string key;  // "kernel:pc:kind", empty for none
};
std::string key_of(const Mutant& mutant);

}  // namespace vgpu
