#include "mutate/move.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "machine/ops/ops.h"

namespace vgpu {
namespace {

bool is_control(const Instr& in) {
  switch (in.flow) {
    case Flow::kBranch:
    case Flow::kBranchIndexed:
    case Flow::kCall:
    case Flow::kReturn:
    case Flow::kExit:
      return true;
    default:
      return false;
  }
}
bool is_wgmma(const Instr& in) { return has(in, "wgmma.mma_async"); }
bool is_copy(const Instr& in) {
  return in.cls == InstrClass::kAsync && (has(in, "async.") || has(in, ".async")) &&
         !is_wgmma(in) && !has(in, "wgmma.") && !has(in, "wait") && !has(in, "commit") &&
         !has(in, "prefetch") && !has(in, "cp.async.mbarrier");
}
bool accesses_memory(const Instr& in) {
  return in.cls == InstrClass::kLoad || in.cls == InstrClass::kStore ||
         in.cls == InstrClass::kAtomic || is_copy(in);
}
bool accesses_shared(const Instr& in) {
  return (accesses_memory(in) && in.space == ptx::Space::kShared) || is_copy(in) || is_wgmma(in) ||
         has(in, "ldmatrix") || has(in, "stmatrix");
}
bool is_arrival(const Instr& in) { return has(in, "mbarrier.arrive"); }
bool is_barrier(const Instr& in) { return in.flow == Flow::kBarrier; }
// Other threads go on, or hardware begins.
bool starts_others(const Instr& in) {
  return is_arrival(in) || (is_barrier(in) && has(in, "arrive")) ||
         has(in, "barrier.cluster.arrive") || is_copy(in) || is_wgmma(in);
}

// Whether the fence, wait or expect_tx `moved` does its work for `in`. A fence of the proxy behind
// a barrier is as good as before it, where the thread that copies has it too.
bool matters(const Instr& moved, const Instr& in) {
  if (has(moved, "wgmma.fence")) return is_wgmma(in);
  if (is_fence(moved)) return starts_others(in);
  if (has(moved, "expect_tx")) return is_arrival(in);
  if (has(moved, "griddepcontrol.wait")) return accesses_memory(in);
  if (has(moved, "wgmma.wait_group"))
    return in.fn == ops::exec_watched || is_barrier(in) || (starts_others(in) && !is_wgmma(in)) ||
           (in.cls == InstrClass::kStore && in.space == ptx::Space::kShared) || has(in, "stmatrix");
  if (has(moved, "mbarrier.")) return accesses_shared(in);
  return accesses_shared(in) || is_barrier(in) || has(in, "bar.warp.sync") || starts_others(in);
}

using Ids = std::set<u32>;
// Pools are read by stores and copies; loads and matrix instructions write them.
void collect(const Program& program, u32 first, u32 last, Ids& read, Ids& written) {
  for (u32 pc = first; pc < last; ++pc) {
    const Instr& in = program.code[pc];
    const auto add = [](const Operand& o, Ids& ids) {
      if (o.valid && o.id != 0) ids.insert(o.id);
    };
    for (const Operand* o : {&in.a, &in.b, &in.c, &in.d, &in.guard}) add(*o, read);
    for (const Operand* o : {&in.dst, &in.dst2}) add(*o, written);
    const bool source = in.cls == InstrClass::kStore || in.cls == InstrClass::kAsync;
    for (u32 i = 0; i < in.pool_count; ++i) add(program.pool[in.pool + i], source ? read : written);
  }
}
bool disjoint(const Ids& a, const Ids& b) {
  return std::none_of(a.begin(), a.end(), [&](u32 id) { return b.contains(id); });
}

// Calls f(branch, target) for each place that code may jump to.
template <class P, class F>
void for_each_target(P& program, F&& f) {
  for (u32 pc = 0; pc < program.code.size(); ++pc) {
    auto& in = program.code[pc];
    if (in.flow == Flow::kBranch) f(pc, in.target);
    if (in.flow != Flow::kBranchIndexed) continue;
    for (auto& table : program.branch_tables)
      for (auto& target : table) f(pc, target);
  }
}

// The move, or none: nothing jumps into either part, neither jumps out of itself, and every
// register keeps its definition.
Move checked(const Program& program, const Move& move) {
  const auto part = [&](u32 pc) {
    return pc < move.first || pc >= move.last ? 0 : pc < move.middle ? 1 : 2;
  };
  bool legal = true;
  for_each_target(program, [&](u32 pc, u32 target) {
    const u32 begin = part(pc) == 2 ? move.middle : move.first;
    const u32 end = part(pc) == 1 ? move.middle : move.last;
    const bool in_range = target >= begin && target <= end;
    if (part(pc) != 0 ? !in_range : target > move.first && target < move.last) legal = false;
  });
  for (u32 pc = move.first; pc < move.last; ++pc) {
    const Instr& in = program.code[pc];
    if (is_control(in) && in.flow != Flow::kBranch) legal = false;
  }
  Ids read[2], written[2];
  collect(program, move.first, move.middle, read[0], written[0]);
  collect(program, move.middle, move.last, read[1], written[1]);
  legal = legal && disjoint(written[0], read[1]) && disjoint(written[0], written[1]) &&
          disjoint(read[0], written[1]);
  return legal ? move : Move{};
}

// Instructions of a wait's loop, or that a branch skips.
constexpr u32 kLongest = 64;

// The loop around a wait at an mbarrier: {first, end}; {0, 0} where it does more than that.
std::pair<u32, u32> loop_of(const Program& program, u32 wait) {
  const auto size = static_cast<u32>(program.code.size());
  for (u32 pc = wait + 1; pc < std::min(size, wait + kLongest); ++pc) {
    const Instr& in = program.code[pc];
    if (in.flow == Flow::kBranch && in.target <= wait && in.target + kLongest > wait) {
      for (u32 i = in.target; i < pc; ++i)
        if (accesses_shared(program.code[i]) || is_arrival(program.code[i])) return {};
      return {in.target, pc + 1};
    }
    if (is_control(in) && in.flow != Flow::kBranch) return {};
  }
  return {};
}

}  // namespace

bool has(const Instr& in, std::string_view word) {
  return in.text.find(word) != std::string_view::npos;
}
bool is_fence(const Instr& in) { return has(in, "fence.proxy") || has(in, "fence.mbarrier_init"); }

Move delay(const Program& program, u32 pc) {
  const Instr& moved = program.code[pc];
  Move move{pc, pc + 1};
  if (has(moved, "mbarrier.") && moved.flow == Flow::kWait) {
    std::tie(move.first, move.middle) = loop_of(program, pc);
    if (move.middle == 0) return {};
  }
  bool found = false;
  for (u32 at = move.middle, end = at; at < program.code.size(); ++at) {
    const Instr& in = program.code[at];
    found = found || matters(moved, in);
    end = std::max(end, at + 1);
    // What a branch skips, one thread's work, is passed as a whole.
    if (in.flow == Flow::kBranch && in.target > at && in.target - at < kLongest) {
      end = std::max(end, in.target);
    } else if (is_control(in)) {
      break;
    }
    if (found && end == at + 1) return checked(program, {move.first, move.middle, end});
  }
  return {};
}

Move advance(const Program& program, u32 pc) {
  const Instr& moved = program.code[pc];
  const auto published = [&](const Instr& in) {
    if (has(moved, "wgmma.commit")) return is_wgmma(in);
    if (has(moved, "commit")) return is_copy(in) && has(in, "bulk") == has(moved, "bulk");
    return accesses_shared(in) || (in.cls == InstrClass::kAsync && has(in, "wait"));
  };
  u32 begin = pc;
  for (u32 at = pc; at-- > 0;) {
    const Instr& in = program.code[at];
    if (published(in)) return checked(program, {at, begin, pc + 1});
    // A branch over the instruction goes with it.
    const bool over = in.flow == Flow::kBranch && in.target == pc + 1 && pc - at < kLongest;
    if (over && begin == pc) {
      begin = at;
    } else if (is_control(in)) {
      break;
    }
  }
  return {};
}

void apply(const Move& move, Program& program) {
  for_each_target(program, [&](u32 pc, u32& target) {
    if (pc >= move.first && pc < move.middle) {
      target += move.last - move.middle;
    } else if (pc >= move.middle && pc < move.last) {
      target -= move.middle - move.first;
    }
  });
  const auto begin = program.code.begin();
  std::rotate(begin + move.first, begin + move.middle, begin + move.last);
  for (u32 pc = move.first; pc < move.last; ++pc) program.code[pc].site = pc;
  // More places where paths may meet do no harm.
  const auto end = std::min<size_t>(move.last + 1, program.code.size());
  for (size_t pc = move.first; pc < end; ++pc) program.code[pc].block_start = true;
}

}  // namespace vgpu
