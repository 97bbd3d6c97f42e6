// Bulk copies: asynchronous copies and reductions between global memory and the shared memory of a
// cluster's CTAs, with or without a tensor map; st.async and red.async, which complete alike.
//
// PTX ISA 9.0 sections 9.7.9.25.4 to 9.7.9.25.6. Invariants:
//  - A copy into shared memory completes piece by piece; each piece is written, and then counted at
//    its mbarrier. That happens at issue, at seeded moments, or when every thread of the cluster
//    waits.
//  - A copy out of shared memory belongs to a bulk group of its thread. First its source is read,
//  at
//    the latest at the wait_group.read that requires it; then global memory is written, at the
//    latest at the wait_group, or when the cluster ends.
//  - Whether a source may be used again is decided by what the thread has waited for, not by when
//    the copy was done.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "check/proxy.h"
#include "common/types.h"
#include "machine/ir.h"

namespace vgpu {

class Cluster;
class Cta;
class Warp;
struct Allocation;

struct BulkCopy {
  // Contiguous on both sides. Without an allocation it is filled, or skipped as destination.
  struct Piece {
    const Allocation* allocation = nullptr;
    u64 offset = 0;  // in the allocation
    u32 shared = 0;  // offset in the CTA's shared memory: of the source when that is shared
    u32 target = 0;  // and in the target's
    u32 bytes = 0;
    u8* global() const;  // nullptr when there is none
    bool all_defined() const;
    bool defined(u32 byte) const;
  };
  const Instr* instr = nullptr;
  Warp* warp = nullptr;  // issuer
  int lane = 0;
  u32 thread = 0;                      // in its CTA
  Cta* source = nullptr;               // CTA whose shared memory is read
  Cta* target = nullptr;               // CTA whose shared memory is written
  u32 barrier = 0;                     // offset of the mbarrier in the target's shared memory
  bool counted = false;                // at the mbarrier
  bool fill_nan = false, cut = false;  // of the tensor map
  u32 element = 1;                     // bytes, of filling and reducing
  const Instr* reduce = nullptr;       // operation and type as an atomic has them
  std::vector<Piece> pieces;
  std::vector<u8> value;  // st.async, red.async; or what has been read from shared memory
  std::vector<u8> value_defined;

  AsyncId id = 0;
  u32 global_id = 0;                // in the race check of global memory
  const Allocation* map = nullptr;  // where a tensor map in global memory is
  u64 map_offset = 0;
  u32 next = 0;       // piece
  bool read = false;  // the source of a copy to global memory
  bool waited = false;
  bool done() const { return next == pieces.size(); }
};

class BulkCopies {
 public:
  explicit BulkCopies(Cluster& cluster) : cluster_(cluster) {}

  void start(u64 seed);
  void issue(std::shared_ptr<BulkCopy> copy);
  void commit(Cta& cta, u32 thread);
  void wait_group(Cta& cta, u32 thread, u32 pending, bool read);
  // A chance for copies under way to go on.
  void maybe_advance();
  // Nothing else goes on: some copy does. False when none is under way.
  bool advance();
  bool any() const { return !under_way_.empty(); }
  // No thread of the CTA is left.
  void exited(Cta& cta);
  void drain();

 private:
  struct Group {
    std::vector<std::shared_ptr<BulkCopy>> copies;
    bool committed = false;
  };
  using Groups = std::deque<Group>;

  void perform(BulkCopy& copy, u32 pieces);
  void read_source(BulkCopy& copy);
  void write_global(BulkCopy& copy);
  void into_shared(BulkCopy& copy, const BulkCopy::Piece& piece);
  void count_bytes(BulkCopy& copy, u32 bytes);
  void erase_done();

  Cluster& cluster_;
  Random random_{0};
  Asynchrony policy_ = Asynchrony::kEarly;
  std::vector<std::shared_ptr<BulkCopy>> under_way_;
  std::unordered_map<u32, Groups> groups_;  // by thread of the cluster
  // Copies that have written global memory, but that nobody has waited for: a wait_group.read does
  // not say that they have.
  std::unordered_map<u32, std::vector<u32>> unwaited_;
};

}  // namespace vgpu
