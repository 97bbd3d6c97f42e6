// wgmma: products that a warpgroup issues and that complete some time before it waits for them.
//
// PTX ISA 9.0 section 9.7.15. Invariants:
//  - A warpgroup is four warps from a multiple of four on. All of them execute the same wgmma
//    instructions, and setmaxnreg, with the same descriptors, in the same order.
//  - Each warp issues its share: 16 rows of A, of its own registers or of shared memory, times all
//    of B. A wgmma is complete when the shares of all four warps are; a wait_group of any of them
//    waits for that.
//  - A share reads its operands and writes its accumulator at one moment between the issue by all
//    four warps and the wait that requires it, in the order of issue of its warp. Until the wait,
//    accumulators read as undefined.
//  - A wgmma comes after stores to shared memory that any thread of its warpgroup made before a
//    wgmma.fence and has shown by a fence.proxy.async of its own, before or behind that: the list
//    of steps of section 9.7.15 asks for no barrier ("wgmma.fence operations to indicate that the
//    register/shared-memory across the warpgroup have been written into", fence.proxy.async "to
//    make the generic proxy operations visible to the async proxy"). What one warp's issue does not
//    find ordered is looked at again when all four have issued.
//  - The race check has one operation for each share and one agent for each warpgroup. It sees a
//    share read its rows of A and a quarter of B: together the warps cover B.
//  - wgmma.fence starts an epoch of its warp. Within an epoch no register may be accessed first by
//    an ordinary instruction and then by a wgmma. Moves into registers that no wgmma of the epoch
//    has used yet are no such access: compilers put initial values there.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "async/wgmma_tile.h"
#include "check/proxy.h"
#include "common/types.h"
#include "machine/warp.h"

namespace vgpu {

class Cta;

// Types of accumulators, in Instr::sub2.
inline constexpr u8 kWgmmaF32 = 0, kWgmmaF16 = 1, kWgmmaS32 = 2;
inline constexpr u32 kWgmmaWarps = 4;

// Of an instruction's registers the first are its accumulators.
inline const Operand* wgmma_registers(Warp& w, const Instr& in) { return &w.operand(in.pool); }
inline u32 wgmma_accumulators(const Instr& in) {
  return in.sub2 == kWgmmaF16 ? in.sub * 2u : in.sub * 4u;
}

class Wgmma {
 public:
  void start(Cta& cta, u64 seed);
  // The next instruction of its warpgroup that all four warps must execute alike; `what` are the
  // operands that must be the same. False, and a finding, where this warp cannot execute it.
  bool step(Warp& w, const Instr& in, u32 mask, const std::array<u64, 3>& what = {});

  void fence(Warp& w);
  void issue(Warp& w, const Instr& in, u64 a, u64 b, bool scale_d);
  void commit(Warp& w);
  // Completes all but the newest `pending` groups of the warp. False: other warps of the warpgroup
  // have not issued their shares yet.
  bool wait(Warp& w, const Instr& in, u32 pending);
  // An ordinary instruction accesses registers that wgmma instructions of the kernel use.
  void touch(Warp& w, const Instr& in, const std::vector<u32>& registers, bool move);
  // A tensor copy puts a tile into shared memory, for hints.
  void tile_copied(u32 address, u32 bytes, u32 swizzle) { tiles_[address] = {bytes, swizzle}; }
  void warp_exited(Warp& w, const Instr& in);
  // A chance for products under way to complete.
  void maybe_advance(Cta& cta);
  bool any() const { return open_ != 0; }

 private:
  // Where an operand is in the CTA's shared memory: offsets of its units in order, and the blocks
  // that they are in, ascending.
  struct Place {
    std::vector<u32> units;
    std::vector<UnitBlock> blocks;
  };
  using Stores = std::array<u32, kLanes>;  // below a clock for each lane
  struct Share {
    const Instr* in = nullptr;
    bool scale_d = false;
    bool done = false;
    const Place *a = nullptr, *b = nullptr, *quarter = nullptr;  // of B, of the race check
    bool look_again = false;                                     // when all warps have issued
    u32 clock = 0, writes = 0;             // of the warp, and made by all threads, at its issue
    std::shared_ptr<const Stores> stores;  // of its warp, behind its fences
    AsyncId operation = 0;
  };
  // What the warp's instructions have used a register for.
  struct Use {
    u32 used = 0, touched = ~0u;  // epochs of the last use by a wgmma, by an ordinary instruction
    u32 flying = 0;               // shares under way
    u32 role = 0;                 // for the last wgmma: its shape, or 0 as a fragment of A
  };
  struct WarpState {
    std::deque<Share> shares;  // not yet waited for, the oldest first
    u64 issued = 0, finished = 0, ended = 0, waited = 0;
    std::deque<u64> groups;  // committed: `issued` at that moment
    u64 steps = 0;
    u32 fence_clock = 0;                   // of the warp's threads at the latest wgmma.fence
    std::shared_ptr<const Stores> stores;  // before it, and shown, when there had been
    u32 proxy_fences = 0;                  // so many
    u64 told = 0;   // wgmma whose registers were found accessed: one missing wait is one finding
    u32 epoch = 0;  // 0: no fence yet
    std::vector<Use> uses;                                      // by register
    std::unordered_map<u32, std::array<u8, kLanes>> undefined;  // bytes of accumulators under way
  };
  struct Step {
    const Instr* in = nullptr;
    std::array<u64, 3> what{};
  };
  struct Group {  // of four warps
    std::deque<Step> steps;
    u64 first_step = 0;          // number of steps.front()
    std::array<TileB, 8> tiles;  // of B, the latest ones
    u32 next_tile = 0;
  };
  WarpState& state(Warp& w);
  Group& group(const Warp& w);
  void check_registers(Warp& w, WarpState& s, const Instr& in);
  void perform(Warp& w, WarpState& s);
  // So many wgmma have been issued by all warps of the warpgroup.
  u64 issued_by_all(u32 warp) const;
  void perform_issued(Cta& cta, u32 warp);
  void note_stores(Warp& w, WarpState& s);
  void issued_by_last(Warp& w, u64 number);
  const Place& place(const Cta& cta, u64 descriptor, bool mn_major, u32 first, u32 rows);
  const Place& operand(Warp& w, const Instr& in, u64 descriptor, bool mn_major, u32 first,
                       u32 rows);
  void compare_layout(Warp& w, const Instr& in, u64 descriptor, u32 address);
  void begin_reads(Warp& w, Share& share, u64 a, u64 b);
  void end_reads(Cta& cta, WarpState& s);
  void gather(const Cta& cta, const std::vector<u32>& units);
  void gather_registers(Warp& w, const Instr& in);
  TileB& tile_b(Warp& w, const Share& share);
  void retire(Warp& w, WarpState& s);
  void read_accumulator(Warp& w, const Share& share);
  void write_accumulator(Warp& w, WarpState& s, const Share& share, const TileB& b, bool adds);

  std::vector<WarpState> warps_;
  std::vector<Group> groups_;
  struct Tile {
    u32 bytes = 0, swizzle = 0;
  };
  std::map<u32, Tile> tiles_;                   // by address
  std::map<std::array<u64, 2>, Place> places_;  // by descriptor, major and rows
  // Of one share at a time.
  TileA a_;
  std::vector<u8> raw_;
  std::vector<u32> undefined_units_;
  std::vector<float> product_;

  Random random_{0};
  u64 open_ = 0;  // shares not done
  Asynchrony policy_ = Asynchrony::kAny;
};

}  // namespace vgpu
