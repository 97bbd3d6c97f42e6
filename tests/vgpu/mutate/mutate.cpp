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
    case Mutant::Kind::kDelayWait:
      return "delay-wait";
    case Mutant::Kind::kDelayExpect:
      return "delay-expect";
    case Mutant::Kind::kAdvanceArrive:
      return "advance-arrive";
    case Mutant::Kind::kAdvanceCommit:
      return "advance-commit";
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

std::vector<Mutant::Kind> kinds_of(const Instr& in) {
  using Kind = Mutant::Kind;
  if (in.cls == InstrClass::kBarrier && has(in, "mbarrier.")) {
    if (in.flow == Flow::kWait && in.flag)
      return {Kind::kDropWait, Kind::kFlipPhase, Kind::kDelayWait};
    if (in.flow == Flow::kWait) return {Kind::kDropWait, Kind::kDelayWait};
    if (has(in, "arrive.expect_tx")) return {Kind::kDropExpect, Kind::kHalveExpect};
    if (has(in, "expect_tx")) return {Kind::kDropExpect, Kind::kHalveExpect, Kind::kDelayExpect};
    if (!has(in, "mbarrier.arrive")) return {};
    if (in.dst.valid) return {Kind::kAdvanceArrive};
    return {Kind::kDropArrive, Kind::kAdvanceArrive};
  }
  if (in.cls == InstrClass::kBarrier && is_fence(in)) return {Kind::kDropFence, Kind::kDelayFence};
  // bar.red computes something; without it there is no program.
  if (in.cls == InstrClass::kBarrier && in.flow != Flow::kNone && !in.dst.valid)
    return {Kind::kDropBarrier};
  if (in.cls == InstrClass::kAsync && has(in, "wgmma.fence"))
    return {Kind::kDropFence, Kind::kDelayFence};
  if (in.cls == InstrClass::kAsync && has(in, "wgmma.wait_group"))
    return {Kind::kDropWait, Kind::kRaiseWait, Kind::kDelayWait};
  if (in.cls == InstrClass::kAsync && has(in, "wait")) return {Kind::kDropWait, Kind::kDelayWait};
  if (in.cls == InstrClass::kAsync && has(in, "commit"))
    return {Kind::kDropCommit, Kind::kAdvanceCommit};
  if (is_bounds_compare(in)) return {Kind::kFlipGuard};
  return {};
}

bool delays(Mutant::Kind kind) {
  return kind == Mutant::Kind::kDelayFence || kind == Mutant::Kind::kDelayWait ||
         kind == Mutant::Kind::kDelayExpect;
}
bool advances(Mutant::Kind kind) {
  return kind == Mutant::Kind::kAdvanceArrive || kind == Mutant::Kind::kAdvanceCommit;
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
    for (const Mutant::Kind kind : kinds_of(in)) {
      Mutant m;
      if (delays(kind)) m.move = delay(program, pc);
      if (advances(kind)) m.move = advance(program, pc);
      if ((delays(kind) || advances(kind)) && !m.move.exists()) continue;
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
  if (mutant.move.exists()) {
    apply(mutant.move, program);
    return;
  }
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
  in.flow = Flow::kNone;
  in.fn = do_nothing;
}

}  // namespace vgpu
