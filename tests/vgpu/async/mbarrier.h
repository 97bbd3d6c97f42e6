// mbarrier: barriers that live in shared memory, at which threads and asynchronous copies arrive.
//
// PTX ISA 9.0 section 9.7.13.15. Invariants:
//  - An object is known by its offset in shared memory from init to inval. Its 64 bits there are an
//    image of it: a program that writes over them has lost the barrier, and is told so.
//  - A phase is complete when its pending arrivals are; then the next one begins with the expected
//    count. What those who arrive have released is acquired by those who find a phase complete.
#pragma once

#include <unordered_map>
#include <vector>

#include "common/types.h"

namespace vgpu {

class Cta;

class MBarriers {
 public:
  static constexpr u32 kMaxCount = (1u << 20) - 1;

  struct Object {
    u32 expected = 0;  // arrivals per phase
    u32 pending = 0;   // arrivals that the current phase still waits for
    u32 phase = 0;
    u32 deferred = 0;            // arrivals among the pending ones that wait for copies
    std::vector<u32> arriving;   // released in this phase
    std::vector<u32> completed;  // released in phases before it

    // Also the opaque state that arrive returns.
    u64 image() const { return u64{phase} << 40 | u64{expected} << 20 | pending; }
  };
  static u32 pending_of(u64 state) { return static_cast<u32>(state) & kMaxCount; }
  static bool same_phase(u64 state, const Object& o) {
    return ((state ^ o.image()) & ~((u64{1} << 40) - 1)) == 0;
  }

  void start() { objects_.clear(); }
  Object& init(Cta& cta, u32 offset, u32 count);
  void inval(u32 offset) { objects_.erase(offset); }
  bool known(u32 offset) const { return objects_.count(offset) != 0; }
  // nullptr when there is none, or something else was written in its place.
  Object* find(const Cta& cta, u32 offset);
  // Takes `count` of the pending arrivals off. The caller has seen to what is released.
  void arrive(Cta& cta, u32 offset, Object& object, u32 count);
  void show(Cta& cta, u32 offset, const Object& object) const;

 private:
  std::unordered_map<u32, Object> objects_;
};

}  // namespace vgpu
