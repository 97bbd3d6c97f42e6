// Calls, returns, built-in functions and barrier arrival of a group of lanes.
//
// PTX ISA 9.0 sections 7.1 (function declarations) and 9.7.12.5 (call).
#include <algorithm>

#include "common/error.h"
#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/printf.h"
#include "machine/warp.h"

namespace vgpu {
namespace {

constexpr u32 kStackLimit = 512 * 1024;  // bytes of local memory per thread

}  // namespace

void Warp::grow_local(u32 bytes) {
  if (bytes <= local_bytes_) return;
  const u32 larger = std::max(bytes, local_bytes_ * 2);
  std::vector<u8> data(size_t{larger} * kLanes, 0xff), defined(size_t{larger} * kLanes, 0);
  for (size_t lane = 0; lane < kLanes && local_bytes_ != 0; ++lane) {
    std::copy_n(&local_[lane * local_bytes_], local_bytes_, &data[lane * larger]);
    std::copy_n(&local_defined_[lane * local_bytes_], local_bytes_, &defined[lane * larger]);
  }
  local_ = std::move(data);
  local_defined_ = std::move(defined);
  local_bytes_ = larger;
}

// Copies parameters between frames (offsets shifted against frame_base_) or register slots.
void Warp::copy_params(const std::vector<FunctionInfo::Param>& from,
                       const std::vector<FunctionInfo::Param>& to, u32 mask, i64 from_shift,
                       i64 to_shift) {
  const size_t n = std::min(from.size(), to.size());
  for (size_t i = 0; i < n; ++i) {
    const FunctionInfo::Param& source = from[i];
    const FunctionInfo::Param& target = to[i];
    for_each_lane(mask, [&](int lane) {
      u8 data[16] = {}, defined[16] = {};
      const u8* from_data = data;
      const u8* from_defined = defined;
      u32 bytes = std::min(source.bytes, target.bytes);
      if (source.reg.valid) {
        const u64 v = value(source.reg, lane);
        std::memcpy(data, &v, sizeof v);
        const u32 undefined = undef_of(source.reg, lane);
        for (int b = 0; b < 8; ++b) defined[b] = (undefined >> b) & 1 ? 0 : 0xff;
        bytes = std::min<u32>(bytes, 8);
      } else {
        const i64 at = frame_base(lane) + from_shift + source.offset;
        from_data = local(lane) + at;
        from_defined = local_defined(lane) + at;
      }
      if (target.reg.valid) {
        u64 v = 0;
        std::memcpy(&v, from_data, std::min<u32>(bytes, 8));
        set_value(target.reg, lane, v);
        u32 undefined = 0;
        for (u32 b = 0; b < std::min<u32>(bytes, 8); ++b)
          undefined |= from_defined[b] == 0 ? 1u << b : 0u;
        set_undef(target.reg, lane, undefined);
      } else {
        const i64 at = frame_base(lane) + to_shift + target.offset;
        std::memmove(local(lane) + at, from_data, bytes);
        std::memmove(local_defined(lane) + at, from_defined, bytes);
      }
    });
  }
}

void Warp::call(Group& g, const Instr& in, u32 mask) {
  if (mask != g.mask) {  // a predicated call: the other lanes go around it
    const u32 pc = g.pc;
    const u32 skipping = g.mask & ~mask;
    const std::shared_ptr<CallFrame> frame = g.frame;
    g.mask = mask;
    groups_.push_back({pc + 1, skipping, {}, 0, false, frame});
    return;  // picked again, now complete
  }
  if (!in.a.valid) {
    enter(g, in, mask, in.target);
    return;
  }
  // Indirect: one target per run of equal lanes; the first one goes now.
  const u32 undefined = undef_[in.a.id] & mask;
  if (undefined != 0) {
    report(FindingKind::kUndefinedBranch, in, std::countr_zero(undefined),
           "the called address is undefined");
  }
  const u64 address = value(in.a, std::countr_zero(mask));
  u32 same = 0;
  for_each_lane(mask, [&](int lane) {
    if (value(in.a, lane) == address) same |= 1u << lane;
  });
  const u64 number = address - cta_->launch.machine.memory.function_window();
  const u32 function = number < program_->by_number.size() ? program_->by_number[number] : 0;
  if (function == 0) {
    fault(kFaultInvalidPc, FindingKind::kOutOfBounds, in, std::countr_zero(mask),
          "call of an address that is no function");
  }
  // The others call when these are back: until then they are a group of their own.
  const Group later{g.pc, mask & ~same, {}, 0, false, g.frame};
  g.mask = same;
  enter(g, in, same, function);
  if (later.mask != 0) groups_.push_back(later);
}

void Warp::enter(Group& g, const Instr& in, u32 mask, u32 function) {
  const FunctionInfo& callee = program_->functions[function];
  if (callee.builtin != FunctionInfo::Builtin::kNone) {
    ++g.pc;
    builtin(in, mask, function);
    return;
  }
  const u32 caller = static_cast<u32>(in.imm);
  const u32 frame_bytes = program_->functions[caller].frame_bytes;
  u32 top = 0;
  for_each_lane(mask, [&](int lane) { top = std::max(top, frame_base(lane)); });
  const u32 needed = top + frame_bytes + callee.frame_bytes;
  if (needed > kStackLimit) {
    fault(kFaultHardwareStack, FindingKind::kOutOfBounds, in, std::countr_zero(mask),
          "the call stack is deeper than " + std::to_string(kStackLimit) + " bytes per thread");
  }
  grow_local(needed);
  const CallSite& site = program_->calls[in.pool];
  auto frame = std::make_shared<CallFrame>();
  frame->parent = g.frame;
  frame->depth = g.depth() + 1;
  frame->return_pc = g.pc + 1;
  frame->caller = caller;
  frame->callee = function;
  frame->call_site = in.pool;
  if (callee.recursive) {
    const u32 bytes = callee.file_end - callee.file_begin;
    const u32 ids = callee.id_end - callee.id_begin;
    frame->saved.assign(file_ + callee.file_begin, file_ + callee.file_begin + bytes);
    frame->saved_undef.assign(undef_.begin() + callee.id_begin, undef_.begin() + callee.id_end);
    const u8* const undefined = undef_bytes_.data() + size_t{callee.id_begin} * kLanes;
    frame->saved_bytes.assign(undefined, undefined + size_t{ids} * kLanes);
  }
  // The callee's frame starts out undefined.
  for_each_lane(mask, [&](int lane) {
    std::memset(local_defined(lane) + frame_base(lane) + frame_bytes, 0, callee.frame_bytes);
  });
  copy_params(site.args, callee.params, mask, 0, frame_bytes);
  for_each_lane(mask, [&](int lane) { frame_base_[lane] += frame_bytes; });
  g.frame = std::move(frame);
  g.pc = callee.entry;
}

// PTX ISA 9.0 section 9.7.12.6: ret; in the kernel itself it ends the thread.
void Warp::leave(Group& g, u32 mask) {
  if (!g.frame) {
    exit_lanes(g, mask);
    return;
  }
  if (mask != g.mask) {
    const Group stays{g.pc + 1, g.mask & ~mask, {}, 0, false, g.frame};
    g.mask = mask;
    groups_.push_back(stays);
    return;  // picked again
  }
  const CallFrame& frame = *g.frame;
  const FunctionInfo& callee = program_->functions[frame.callee];
  const CallSite& site = program_->calls[frame.call_site];
  const u32 frame_bytes = program_->functions[frame.caller].frame_bytes;
  for_each_lane(mask, [&](int lane) { frame_base_[lane] -= frame_bytes; });
  copy_params(callee.results, site.results, mask, frame_bytes, 0);
  if (callee.recursive) restore(frame, site, mask);
  g.pc = frame.return_pc;
  g.frame = std::shared_ptr<CallFrame>(frame.parent);
}

// Gives the lanes that return the registers that their outer activation had. Registers that just
// received the call's results keep them.
void Warp::restore(const CallFrame& frame, const CallSite& site, u32 mask) {
  const FunctionInfo& callee = program_->functions[frame.callee];
  for (const Operand& slot : callee.slots) {
    const bool is_result = std::any_of(
        site.results.begin(), site.results.end(),
        [&](const FunctionInfo::Param& p) { return p.reg.valid && p.reg.id == slot.id; });
    if (is_result) continue;
    const u8* saved = frame.saved.data() + (slot.off - callee.file_begin);
    const u32 id = slot.id - callee.id_begin;
    for_each_lane(mask, [&](int lane) {
      const auto l = static_cast<size_t>(lane);
      if (slot.width == 0) {
        set_value(slot, lane, (*reinterpret_cast<const u32*>(saved) >> lane) & 1);
      } else {
        std::memcpy(file_ + slot.off + l * slot.width, saved + l * slot.width, slot.width);
      }
      const bool undefined = ((frame.saved_undef[id] >> lane) & 1) != 0;
      set_undef(slot, lane, undefined ? frame.saved_bytes[size_t{id} * kLanes + l] : 0);
    });
  }
}

void Warp::builtin(const Instr& in, u32 mask, u32 function) {
  const CallSite& site = program_->calls[in.pool];
  const auto argument = [&](size_t i, int lane) {
    const FunctionInfo::Param& p = site.args.at(i);
    if (p.reg.valid) return value(p.reg, lane);
    u64 v = 0;
    std::memcpy(&v, local(lane) + frame_base(lane) + p.offset, std::min<u32>(p.bytes, 8));
    return v;
  };
  const auto result = [&](int lane, u64 v) {
    if (site.results.empty()) return;
    const FunctionInfo::Param& p = site.results[0];
    if (p.reg.valid) {
      set_value(p.reg, lane, v);
      set_undef(p.reg, lane, 0);
    } else {
      std::memcpy(local(lane) + frame_base(lane) + p.offset, &v, p.bytes);
      std::memset(local_defined(lane) + frame_base(lane) + p.offset, 0xff, p.bytes);
    }
  };
  switch (program_->functions[function].builtin) {
    case FunctionInfo::Builtin::kVprintf:
      for_each_lane(mask, [&](int lane) {
        result(lane, device_printf(*this, in, lane, argument(0, lane), argument(1, lane)));
      });
      break;
    case FunctionInfo::Builtin::kAssertFail: {
      const int lane = std::countr_zero(mask);
      const std::string message = read_string(*this, argument(0, lane));
      const std::string file = read_string(*this, argument(1, lane));
      const std::string where = read_string(*this, argument(3, lane));
      fault(kFaultAssert, FindingKind::kTrap, in, lane,
            file + ":" + std::to_string(static_cast<u32>(argument(2, lane))) + ": " + where +
                ": Assertion `" + message + "` failed.");
    }
    case FunctionInfo::Builtin::kMalloc:
      for_each_lane(mask, [&](int lane) { result(lane, device_malloc(*this, argument(0, lane))); });
      break;
    case FunctionInfo::Builtin::kFree:
      for_each_lane(mask, [&](int lane) { device_free(*this, in, lane, argument(0, lane)); });
      break;
    case FunctionInfo::Builtin::kNone:
      break;
  }
}

// PTX ISA 9.0 section 9.7.13.1: bar, barrier.
void Warp::barrier(Group& g, const Instr& in, u32 mask) {
  if (in.flag) {
    if (mask != g.mask) {
      report(FindingKind::kDivergence, in, std::countr_zero(g.mask & ~mask),
             "an aligned barrier is predicated off for part of the warp");
    } else if (!aligned(g, in)) {
      return;
    }
  }
  const int lead = std::countr_zero(mask);
  const u32 undefined = (undef_[in.a.id] | undef_[in.b.id]) & mask;
  if (undefined != 0) {
    report(FindingKind::kUndefinedBranch, in, std::countr_zero(undefined),
           "the barrier's number or thread count is undefined");
  }
  const u32 index = static_cast<u32>(value(in.a, lead));
  const u32 expected = in.b.valid ? static_cast<u32>(value(in.b, lead)) : 0;
  if (index >= 16) {
    fault(kFaultLaunchFailure, FindingKind::kBarrierMisuse, in, lead,
          "barrier " + std::to_string(index) + " does not exist");
  }
  if (in.b.valid && (expected == 0 || expected % kLanes != 0)) {
    report(FindingKind::kBarrierMisuse, in, lead,
           "thread count " + std::to_string(expected) + " is not a multiple of the warp size");
  }
  u32 same = 0;
  for_each_lane(mask, [&](int lane) {
    if (value(in.a, lane) == index && (!in.b.valid || value(in.b, lane) == expected))
      same |= 1u << lane;
  });
  const bool waits = in.sub != 1;
  u32 predicate = 0;
  if (in.c.valid) predicate = in.c.negated ? ~pred(in.c) : pred(in.c);
  Group rest{g.pc, mask & ~same, {}, 0, false, g.frame};
  Group off{g.pc + 1, g.mask & ~mask, {}, 0, false, g.frame};
  g.mask = same;
  g.barrier = index;
  ++g.pc;
  if (waits) g.state = Group::State::kBarrier;
  if (rest.mask != 0) groups_.push_back(rest);
  if (off.mask != 0) groups_.push_back(off);
  cta_->arrive(*this, in, same, index, expected, waits, predicate & same);
}

void Warp::wake_barrier(u32 index, const Instr* red) {
  for (Group& g : groups_) {
    if (g.state != Group::State::kBarrier || g.barrier != index) continue;
    g.state = Group::State::kReady;
    const Instr& in = at(g.pc - 1);
    if (red != nullptr && in.dst.valid) in.fn(*this, in, g.mask);
  }
}

}  // namespace vgpu
