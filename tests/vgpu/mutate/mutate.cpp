#include "mutate/mutate.h"

namespace vgpu {
namespace {

const char* kind_name(Mutant::Kind kind) {
  switch (kind) {
    case Mutant::Kind::kDropBarrier:
      return "drop-barrier";
    case Mutant::Kind::kDropWait:
      return "drop-wait";
    case Mutant::Kind::kDropCommit:
      return "drop-commit";
    case Mutant::Kind::kFlipGuard:
      return "flip-guard";
    case Mutant::Kind::kDropFence:
      return "drop-fence";
    case Mutant::Kind::kDelayFence:
      return "delay-fence";
    case Mutant::Kind::kDropArrive:
      return "drop-arrive";
    case Mutant::Kind::kDropExpect:
      return "drop-expect";
    case Mutant::Kind::kHalveExpect:
      return "halve-expect";
    case Mutant::Kind::kFlipPhase:
      return "flip-phase";
    case Mutant::Kind::kRaiseWait:
      return "raise-wait";
  }
  return "";
}

void do_nothing(Warp&, const Instr&, u32) {}

// The comparison that sets the predicate of a guarded branch or access, when it is an ordering of
// integers: what a bounds check compiles to.
bool is_bounds_compare(const Instr& in) {
  if (in.cls != InstrClass::kCompare || in.dst.width != 0 || ptx::type_is_float(in.type))
    return false;
  switch (in.cmp) {
    case Compare::kLt:
    case Compare::kLe:
    case Compare::kGt:
    case Compare::kGe:
    case Compare::kLo:
    case Compare::kLs:
    case Compare::kHi:
    case Compare::kHs:
      return true;
    default:
      return false;
  }
}
Compare off_by_one(Compare c) {
  switch (c) {
    case Compare::kLt:
      return Compare::kLe;
    case Compare::kLe:
      return Compare::kLt;
    case Compare::kGt:
      return Compare::kGe;
    case Compare::kGe:
      return Compare::kGt;
    case Compare::kLo:
      return Compare::kLs;
    case Compare::kLs:
      return Compare::kLo;
    case Compare::kHi:
      return Compare::kHs;
    default:
      return Compare::kHi;
  }
}

bool has(const Instr& in, std::string_view word) {
  return in.text.find(word) != std::string_view::npos;
}
bool is_fence(const Instr& in) { return has(in, "fence.proxy") || has(in, "fence.mbarrier_init"); }

// What a fence must come before: the next instruction of its block that tells others to go on.
// 0 when the block has none.
u32 after_fence(const Program& program, u32 fence) {
  for (u32 pc = fence + 1; pc < program.code.size(); ++pc) {
    const Instr& in = program.code[pc];
    if (in.block_start && program.code[pc - 1].flow != Flow::kBarrier) return 0;
    if ((in.cls == InstrClass::kBarrier && !is_fence(in)) || in.cls == InstrClass::kAsync)
      return pc;
    if (in.flow != Flow::kNone) return 0;
  }
  return 0;
}

std::vector<Mutant::Kind> kinds_of(const Program& program, u32 pc) {
  using Kind = Mutant::Kind;
  const Instr& in = program.code[pc];
  if (in.cls == InstrClass::kBarrier && has(in, "mbarrier.")) {
    if (in.flow == Flow::kWait && in.flag) return {Kind::kDropWait, Kind::kFlipPhase};
    if (in.flow == Flow::kWait) return {Kind::kDropWait};
    if (has(in, "expect_tx")) return {Kind::kDropExpect, Kind::kHalveExpect};
    if (has(in, "mbarrier.arrive") && !in.dst.valid) return {Kind::kDropArrive};
    return {};
  }
  if (in.cls == InstrClass::kBarrier && is_fence(in)) {
    if (after_fence(program, pc) != 0) return {Kind::kDropFence, Kind::kDelayFence};
    return {Kind::kDropFence};
  }
  if (in.cls == InstrClass::kBarrier && in.flow != Flow::kNone) return {Kind::kDropBarrier};
  if (in.cls == InstrClass::kAsync && has(in, "wgmma.fence")) return {Kind::kDropFence};
  if (in.cls == InstrClass::kAsync && has(in, "wgmma.wait_group"))
    return {Kind::kDropWait, Kind::kRaiseWait};
  if (in.cls == InstrClass::kAsync && has(in, "wait")) return {Kind::kDropWait};
  if (in.cls == InstrClass::kAsync && has(in, "commit")) return {Kind::kDropCommit};
  if (is_bounds_compare(in)) return {Kind::kFlipGuard};
  return {};
}

}  // namespace

std::string key_of(const Mutant& m) {
  return m.kernel + ":" + std::to_string(m.pc) + ":" + kind_name(m.kind);
}
std::string Mutant::str() const {
  return std::string(kind_name(kind)) + " " + kernel + " line " + std::to_string(line) +
         (source.empty() ? "" : " (" + source + ")") + ": " + text;
}

std::vector<Mutant> find_mutants(const Program& program) {
  std::vector<Mutant> out;
  for (u32 pc = 0; pc < program.code.size(); ++pc) {
    const Instr& in = program.code[pc];
    for (const Mutant::Kind kind : kinds_of(program, pc)) {
      Mutant m;
      m.kind = kind;
      m.kernel = program.kernel;
      m.pc = pc;
      m.line = in.line;
      m.text = std::string(in.text);
      m.source = program.source_of(in);
      out.push_back(std::move(m));
    }
  }
  return out;
}

void apply(const Mutant& mutant, Program& program) {
  Instr& in = program.code[mutant.pc];
  switch (mutant.kind) {
    case Mutant::Kind::kFlipGuard:
      in.cmp = off_by_one(in.cmp);
      return;
    case Mutant::Kind::kDropExpect:
      in.mutation = Instr::Mutation::kNoBytes;
      return;
    case Mutant::Kind::kHalveExpect:
      in.mutation = Instr::Mutation::kHalfBytes;
      return;
    case Mutant::Kind::kFlipPhase:
      in.mutation = Instr::Mutation::kOtherPhase;
      return;
    case Mutant::Kind::kDelayFence: {
      const u32 next = after_fence(program, mutant.pc);
      const Instr fence = in;
      for (u32 pc = mutant.pc; pc < next; ++pc) {
        const bool start = program.code[pc].block_start;
        program.code[pc] = program.code[pc + 1];
        program.code[pc].block_start = start;
      }
      const bool start = program.code[next].block_start;
      program.code[next] = fence;
      program.code[next].block_start = start;
      return;
    }
    case Mutant::Kind::kRaiseWait:
      ++in.imm;
      return;
    case Mutant::Kind::kDropWait:
      if (in.flow == Flow::kWait) {
        in.mutation = Instr::Mutation::kNoWait;
        return;
      }
      break;
    default:
      break;
  }
  if (in.dst.valid) return;  // bar.red computes something; without it there is no program
  in.flow = Flow::kNone;
  in.fn = do_nothing;
}

}  // namespace vgpu
