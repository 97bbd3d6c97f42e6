// mbarrier: barriers that live in shared memory, at which threads and asynchronous copies arrive.
//
// PTX ISA 9.0 section 9.7.13.15. Invariants:
//  - An object is known by its offset in its CTA's shared memory from init to inval. Its 64 bits
//    there are an image of it: a program that writes over them has lost the barrier, and is told
//    so.
//  - A phase is complete when its pending arrivals and its transactions are; then the next one
//    begins with the expected count. What those who arrive have released is acquired by those who
//    find a phase complete.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "check/clocks.h"
#include "common/types.h"

namespace vgpu {

class Cta;

class MBarriers {
 public:
  static constexpr u32 kMaxCount = (1u << 20) - 1;
  static constexpr i64 kMaxTransactions = (1 << 20) - 1;

  struct Object {
    u32 expected = 0;  // arrivals per phase
    u32 pending = 0;   // arrivals that the current phase still waits for
    u32 phase = 0;
    u32 deferred = 0;      // arrivals among the pending ones that wait for copies
    i64 transactions = 0;  // bytes expected and not yet come; negative: come before expected
    Clocks arriving;       // released in this phase
    Clocks completed;      // released in phases before it
    u32 init_thread = 0;   // of the cluster, who initialised it
    u32 init_clock = 0;    // and when
    bool shown = false;    // fence.mbarrier_init or fence.proxy.async after it

    // The opaque state that arrive returns.
    u64 state() const { return u64{phase} << 40 | u64{expected} << 20 | pending; }
    u64 image() const { return state() ^ static_cast<u64>(transactions) * 0x9e3779b97f4a7c15ull; }
  };
  static u32 pending_of(u64 state) { return static_cast<u32>(state) & kMaxCount; }
  static bool same_phase(u64 state, const Object& o) { return (state ^ o.state()) >> 40 == 0; }

  void start() { objects_.clear(); }
  Object& init(Cta& cta, u32 offset, u32 count);
  void inval(u32 offset) { objects_.erase(offset); }
  bool known(u32 offset) const { return objects_.contains(offset); }
  // nullptr when there is none, or something else was written in its place.
  Object* find(const Cta& cta, u32 offset);
  // Takes `count` of the pending arrivals off. The caller has seen to what is released.
  void arrive(Cta& cta, u32 offset, Object& object, u32 count);
  // More transactions expected (positive) or come (negative).
  void transact(Cta& cta, u32 offset, Object& object, i64 bytes);
  void show(Cta& cta, u32 offset, const Object& object) const;
  // The thread's fence.mbarrier_init: those that it initialised are shown to the asynchronous
  // proxy.
  void fence_init(u32 thread);
  // "mbarrier 0x410, phase 3: 1 of 2 arrivals and 512 bytes missing".
  std::string describe(u32 offset) const;

 private:
  void complete_phase(Cta& cta, u32 offset, Object& object);
  std::unordered_map<u32, Object> objects_;
};

}  // namespace vgpu
