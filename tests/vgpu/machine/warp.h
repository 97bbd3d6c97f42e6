// A warp: 32 lanes with one register file, scheduled as groups of lanes that share a pc.
//
// Invariants:
//  - Groups are disjoint and their union is the lanes that have not exited.
//  - Two groups in state kReady at the same pc with the same call frame are one group as soon as
//    either is scheduled.
//  - The group with the deepest call and then the lowest pc runs first, because compilers lay out
//    code so that this is where paths meet again. A group that runs for long while others are
//    ready is set aside for a while, so that lanes waiting for each other make progress.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "check/finding.h"
#include "machine/ir.h"

namespace vgpu {

class Cta;
struct Allocation;

struct CallFrame {
  std::shared_ptr<CallFrame> parent;
  u32 depth = 0;
  u32 return_pc = 0;
  u32 caller = 0, callee = 0;  // function indices
  u32 call_site = 0;
  std::vector<u8> saved;  // register slots of a recursive activation
  std::vector<u32> saved_undef;
  std::vector<u8> saved_bytes;
};

struct Group {
  enum class State : u8 { kReady, kBarrier, kCollective, kAligned, kWait, kPark };
  u32 pc = 0;
  u32 mask = 0;
  State state = State::kReady;
  u32 barrier = 0;
  bool forced = false;  // an aligned instruction may run although lanes are missing
  std::shared_ptr<CallFrame> frame;
  bool timed_out = false;  // the next wait that fails says so
  u32 tried = 0;           // pc of a wait that failed at `tried_at`
  u64 tried_at = 0;

  u32 depth() const { return frame ? frame->depth : 0; }
};

class Warp {
 public:
  Warp(Cta& cta, u32 index);

  void start();
  // Runs until `budget` is used up or nothing is ready. Returns instructions executed.
  u64 run(u64 budget);
  bool ready() const;
  bool done() const { return live_ == 0; }
  void wake_barrier(u32 index, const Instr* red);
  bool force_aligned();
  bool time_out();
  void wake_waiting(u32 barrier);
  bool waits_in_vain() const { return in_vain_ != 0; }
  // For waits: these lanes wait for the barrier in vain.
  void wait_in_vain(u32 lanes, u32 barrier) {
    in_vain_ |= lanes;
    awaited_ = barrier;
  }

  template <class T>
  T* lanes(const Operand& o) {
    return reinterpret_cast<T*>(file_ + o.off);
  }
  u32& pred(const Operand& o) { return *reinterpret_cast<u32*>(file_ + o.off); }
  u32& undef(const Operand& o) { return undef_[o.id]; }
  u8* undef_bytes(const Operand& o) { return undef_bytes_.data() + size_t{o.id} * kLanes; }
  // Value of a lane, zero-extended.
  u64 value(const Operand& o, int lane) const;
  void set_value(const Operand& o, int lane, u64 value);
  // Undefined-byte mask of a lane: bit i set when byte i is undefined.
  u32 undef_of(const Operand& o, int lane) const {
    return (undef_[o.id] >> lane) & 1 ? undef_bytes_[size_t{o.id} * kLanes + lane] : 0;
  }
  void set_undef(const Operand& o, int lane, u32 byte_mask) {
    if (o.id == 0) return;
    undef_bytes_[size_t{o.id} * kLanes + lane] = static_cast<u8>(byte_mask);
    if (byte_mask != 0) {
      undef_[o.id] |= 1u << lane;
    } else {
      undef_[o.id] &= ~(1u << lane);
    }
  }
  void set_defined(const Operand& o, u32 mask) { undef_[o.id] &= ~mask; }
  void set_undefined(const Operand& o, u32 mask);

  // Shadow of an instruction with operands a, b, c and d by its rule. The fast path is one test.
  void shadow(const Instr& in, u32 mask) {
    const u32 sources = undef_[in.a.id] | undef_[in.b.id] | undef_[in.c.id] | undef_[in.d.id];
    if (((sources | undef_[in.dst.id]) & mask) != 0) shadow_slow(in, mask, sources);
  }

  // Computing in lanes that do not exist is harmless, so a full warp takes the fast path.
  bool full(u32 mask) const { return mask == present_; }

  // barrier.cluster: lanes that have arrived and not waited, and the barrier's phase then.
  u32 cluster_arrived = 0;
  u32 cluster_phase[kLanes] = {};

  Cta& cta() { return *cta_; }
  u32 index() const { return index_; }
  u32 slots() const { return program_->slot_ids; }
  const Watched& watched(const Instr& in) const { return program_->watched[in.watch]; }
  // For aligned instructions: the warp waits, and executes this one again when it is woken.
  void park(std::string for_what) {
    parks_ = true;
    parked_for_ = std::move(for_what);
  }
  bool retries() const { return retries_; }
  void unpark();
  u32 live() const { return live_; }
  u32 present() const { return present_; }
  u32 frame_base(int lane) const { return frame_base_[static_cast<size_t>(lane)]; }
  u8* local(int lane) { return local_.data() + static_cast<size_t>(lane) * local_bytes_; }
  u8* local_defined(int lane) {
    return local_defined_.data() + static_cast<size_t>(lane) * local_bytes_;
  }
  u32 local_bytes() const { return local_bytes_; }
  std::vector<Group>& groups() { return groups_; }
  const Instr& at(u32 pc) const;
  const Operand& operand(u32 index) const { return program_->pool[index]; }
  u64 tick() { return ++clock_; }
  u64 executed() const { return clock_; }
  Allocation*& allocation_cache() { return allocation_cache_; }
  void report(FindingKind kind, const Instr& in, int lane, const std::string& message);
  void hint(const Instr& in, const std::string& message);
  [[noreturn]] void fault(int code, FindingKind kind, const Instr& in, int lane,
                          const std::string& message);
  std::string waiting_for() const;
  std::string waiting_at(u32 barrier) const;

 private:
  // A group that has run this long while others were ready steps aside.
  static constexpr u32 kPatience = 4096;

  Finding finding(FindingKind kind, const Instr& in, int lane, const std::string& message) const;
  void shadow_slow(const Instr& in, u32 mask, u32 sources);
  void merge();
  int pick();
  // Each returns false when the running group has to be picked again.
  bool branch(Group& g, const Instr& in, u32 taken);
  void branch_indexed(Group& g, const Instr& in, u32 mask);
  void call(Group& g, const Instr& in, u32 mask);
  void enter(Group& g, const Instr& in, u32 mask, u32 function);
  void builtin(const Instr& in, u32 mask, u32 function);
  void leave(Group& g, u32 mask);
  void exit_lanes(Group& g, u32 mask);
  bool collective(Group& g, const Instr& in, u32 mask);
  bool warp_barrier(Group& g, const Instr& in, u32 mask);
  u32 member_mask(const Instr& in, int lane) const;
  void check_members(const Instr& in, u32 lanes, u32 members);
  bool aligned(Group& g, const Instr& in);
  bool wait(Group& g, const Instr& in, u32 mask);
  bool parks(Group& g, u32 mask);
  void barrier(Group& g, const Instr& in, u32 mask);
  void split(Group& g, u32 stays, u32 other_pc);
  void copy_params(const std::vector<FunctionInfo::Param>& from,
                   const std::vector<FunctionInfo::Param>& to, u32 mask, i64 from_shift,
                   i64 to_shift);
  void restore(const CallFrame& frame, const CallSite& site, u32 mask);
  void grow_local(u32 bytes);

  Cta* cta_;
  const Program* program_;
  u32 index_;
  u32 present_ = 0, live_ = 0;
  std::unique_ptr<u8[]> storage_;
  u8* file_ = nullptr;
  std::vector<u32> undef_;
  std::vector<u8> undef_bytes_;
  std::vector<Group> groups_;
  std::vector<u8> local_, local_defined_;
  u32 local_bytes_ = 0;
  u32 frame_base_[kLanes] = {};
  u32 since_switch_ = 0;
  u64 clock_ = 0;
  u32 in_vain_ = 0, awaited_ = 0;
  bool parks_ = false, retries_ = false;
  std::string parked_for_;
  Allocation* allocation_cache_ = nullptr;  // of the last global access; valid within a launch
};

}  // namespace vgpu
