// cp.async: copies from global to shared memory that complete some time between issue and wait.
//
// PTX ISA 9.0 section 9.7.9.25.3. Invariants:
//  - A copy is issued, then perhaps committed to a group, then complete. It completes at issue, at
//    a seeded moment in between, or at the wait that requires it: never later.
//  - cp.async.mbarrier.arrive (section 9.7.13.15.15) arrives at its mbarrier when the copies that
//    the thread issued before it are complete, by the same choice: at issue, at a seeded moment, or
//    when a thread waits at the mbarrier and nothing else is missing.
//  - Source bytes are read at the moment of completion.
#pragma once

#include <deque>
#include <vector>

#include "common/types.h"

namespace vgpu {

class Cta;
class Warp;
struct Instr;

class CpAsync {
 public:
  struct Copy {
    u32 shared = 0;  // offset in the CTA's shared memory
    const u8* source = nullptr;
    const u64* defined = nullptr;  // of the source allocation, with:
    u64 defined_offset = 0;
    u8 bytes = 0, source_bytes = 0;  // the rest is filled with zero
    bool done = false;
    bool finished = false;  // a wait or an mbarrier has told of it
    u64 number = 0;
    u32 clock = 0;  // of the thread when it first let an mbarrier track this copy; 0: it did not
  };

  void start(const Cta& cta, u64 seed);
  void issue(Cta& cta, u32 thread, const Copy& copy);
  void commit(u32 thread);
  // Waits until at most `pending` of the newest groups of the thread are incomplete.
  void wait_group(Cta& cta, u32 thread, u32 pending);
  // Waits for everything the thread issued, committed or not.
  void wait_all(Cta& cta, u32 thread);
  // Arrives at the mbarrier when the copies that the thread has issued are complete.
  void arrive(Cta& cta, u32 thread, u32 barrier);
  // Someone waits at the mbarrier, in vain so far.
  void poll(Cta& cta, u32 barrier);
  // A chance for copies under way to complete.
  void maybe_advance(Cta& cta);
  bool any() const { return open_ != 0 || !arrivals_.empty(); }
  // Copies still incomplete when their thread exits complete as well.
  void drain(Cta& cta, u32 thread);

 private:
  struct Group {
    std::vector<Copy> copies;
    bool committed = false;
  };
  struct Arrival {
    u32 thread = 0, barrier = 0;
    u32 clock = 0;   // of the thread when it asked for it
    u64 number = 0;  // copies below this one
  };
  void finish(Cta& cta, u32 thread, Copy& copy);
  void finish(Cta& cta, u32 thread, Group& group);
  void finish(Cta& cta, const Arrival& arrival);
  void perform(Cta& cta, Copy& copy);

  std::vector<std::deque<Group>> threads_;
  std::vector<Arrival> arrivals_;
  Random random_{0};
  u64 issued_ = 0;
  u64 open_ = 0;  // groups not yet finished
  Asynchrony policy_ = Asynchrony::kEarly;
};

}  // namespace vgpu
