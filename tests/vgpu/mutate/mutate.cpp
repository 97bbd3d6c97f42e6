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
    Mutant m;
    m.kernel = program.kernel;
    m.pc = pc;
    m.line = in.line;
    m.text = std::string(in.text);
    m.source = program.source_of(in);
    if (in.cls == InstrClass::kBarrier && in.flow != Flow::kNone) {
      m.kind = Mutant::Kind::kDropBarrier;
    } else if (in.cls == InstrClass::kAsync && in.text.find("wait") != std::string_view::npos) {
      m.kind = Mutant::Kind::kDropWait;
    } else if (in.cls == InstrClass::kAsync && in.text.find("commit") != std::string_view::npos) {
      m.kind = Mutant::Kind::kDropCommit;
    } else if (is_bounds_compare(in)) {
      m.kind = Mutant::Kind::kFlipGuard;
    } else {
      continue;
    }
    out.push_back(std::move(m));
  }
  return out;
}

void apply(const Mutant& mutant, Program& program) {
  Instr& in = program.code[mutant.pc];
  if (mutant.kind == Mutant::Kind::kFlipGuard) {
    in.cmp = off_by_one(in.cmp);
    return;
  }
  if (in.dst.valid) return;  // bar.red computes something; without it there is no program
  in.flow = Flow::kNone;
  in.fn = do_nothing;
}

}  // namespace vgpu
