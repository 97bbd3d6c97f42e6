#include "async/bulk.h"

#include <algorithm>
#include <cmath>

#include "machine/access.h"
#include "machine/cluster.h"
#include "machine/global_memory.h"
#include "machine/launch.h"
#include "machine/ops/ops.h"

namespace vgpu {
namespace {

constexpr u32 kAllPieces = ~0u;

// What fills the part of a box outside of its tensor.
void fill(u8* to, u32 bytes, u32 element, bool nan) {
  std::memset(to, nan ? 0xff : 0, bytes);
  if (!nan) return;
  for (u32 i = element - 1; i < bytes; i += element) to[i] = 0x7f;
}
// f32 to tf32: the low 13 bits are cleared.
void cut_to_tf32(u8* data, u32 bytes) {
  for (u32 i = 0; i + 4 <= bytes; i += 4) {
    u32 v;
    std::memcpy(&v, data + i, 4);
    v &= 0xffffe000;
    std::memcpy(data + i, &v, 4);
  }
}

}  // namespace

u8* BulkCopy::Piece::global() const {
  return allocation == nullptr ? nullptr : allocation->host + offset;
}
bool BulkCopy::Piece::all_defined() const {
  if (allocation->defined == nullptr) return true;
  for (u64 bit = offset; bit < offset + bytes;) {
    const u64 n = std::min(64 - bit % 64, offset + bytes - bit);
    if (!all_set(allocation->defined, bit, n)) return false;
    bit += n;
  }
  return true;
}
bool BulkCopy::Piece::defined(u32 byte) const {
  return allocation->defined == nullptr || all_set(allocation->defined, offset + byte, 1);
}

void BulkCopies::start(u64 seed) {
  random_ = Random(seed);
  policy_ = cluster_.launch.asynchrony(random_.next());
  under_way_.clear();
  groups_.clear();
  unwaited_.clear();
}

void BulkCopies::issue(std::shared_ptr<BulkCopy> copy) {
  if (!copy->counted) {
    Groups& groups = groups_[copy->warp->cta().race.thread(copy->thread)];
    if (groups.empty() || groups.back().committed) groups.emplace_back();
    groups.back().copies.push_back(copy);
  }
  if (policy_ == Asynchrony::kEarly || (policy_ == Asynchrony::kAny && random_.below(8) == 0))
    perform(*copy, kAllPieces);
  if (!copy->done()) under_way_.push_back(std::move(copy));
}

void BulkCopies::commit(Cta& cta, u32 thread) {
  Groups& groups = groups_[cta.race.thread(thread)];
  if (groups.empty() || groups.back().committed) groups.emplace_back();  // an empty one counts too
  groups.back().committed = true;
}

void BulkCopies::wait_group(Cta& cta, u32 thread, u32 pending, bool read) {
  Groups& groups = groups_[cta.race.thread(thread)];
  const auto complete = [](const Group& g) {
    return g.committed && std::all_of(g.copies.begin(), g.copies.end(),
                                      [](const auto& c) { return c->waited && c->done(); });
  };
  std::vector<u32>& unwaited = unwaited_[cta.race.thread(thread)];
  const auto pop = [&] {
    for (const auto& copy : groups.front().copies) unwaited.push_back(copy->global_id);
    groups.pop_front();
  };
  while (!groups.empty() && complete(groups.front())) pop();
  auto committed = static_cast<u32>(
      std::count_if(groups.begin(), groups.end(), [](const Group& g) { return g.committed; }));
  for (size_t i = 0; committed > pending; --committed) {
    for (auto& copy : groups[i].copies) {
      read_source(*copy);
      if (!copy->waited) {
        copy->waited = true;
        cta.race.finish_reads(copy->id);
        cta.race.end_operation(copy->id);
      }
      if (!read) perform(*copy, kAllPieces);
    }
    if (read) {
      ++i;
    } else {
      pop();
    }
  }
  if (!read && committed <= pending) {
    // Done and seen, by this thread and those that come after it.
    const u32 id = cta.race.thread(thread);
    for (u32 copy : unwaited)
      cluster_.launch.races.end_operation(copy, id, cta.race.tracker().clock(id));
    unwaited.clear();
  }
  erase_done();
}

void BulkCopies::perform(BulkCopy& copy, u32 pieces) {
  if (copy.target == nullptr) {
    read_source(copy);
    write_global(copy);
    return;
  }
  u32 bytes = 0;
  for (; pieces != 0 && !copy.done(); --pieces) {
    const BulkCopy::Piece& piece = copy.pieces[copy.next++];
    into_shared(copy, piece);
    bytes += piece.bytes;
  }
  ++cluster_.events;
  count_bytes(copy, bytes);
}

// PTX ISA 9.0 section 9.7.9.25.1.2: what has been written is seen by who sees the mbarrier's phase.
void BulkCopies::count_bytes(BulkCopy& copy, u32 bytes) {
  Cta& cta = *copy.target;
  MBarriers::Object* object = cta.mbarriers.find(cta, copy.barrier);
  if (object == nullptr) {
    copy.warp->report(FindingKind::kBarrierMisuse, *copy.instr, copy.lane,
                      "the copy completes where there is no mbarrier any more");
  } else {
    if (copy.done()) cta.race.finish_reads(copy.id);
    if (copy.done() && copy.global_id != 0)
      cluster_.launch.races.end_operation(copy.global_id, cta.race.agent(copy.barrier),
                                          cta.race.tracker().top());
    cta.race.tracker().release_agent(cta.race.agent(copy.barrier), object->arriving);
    if (object->transactions - bytes < -MBarriers::kMaxTransactions) {
      copy.warp->report(FindingKind::kTransaction, *copy.instr, copy.lane,
                        "more bytes come than an mbarrier can count");
    }
    cta.mbarriers.transact(cta, copy.barrier, *object, -i64{bytes});
  }
  if (copy.done()) cta.race.end_operation(copy.id);
}

void BulkCopies::into_shared(BulkCopy& copy, const BulkCopy::Piece& piece) {
  Cta& cta = *copy.target;
  u8* to = cta.shared.data() + piece.target;
  u8* defined = cta.shared_defined.data() + piece.target;
  const u8* from = piece.global();
  const u8* from_defined = nullptr;
  if (copy.source != nullptr) {
    from = copy.source->shared.data() + piece.shared;
    from_defined = copy.source->shared_defined.data() + piece.shared;
  } else if (!copy.value.empty()) {
    from = copy.value.data() + piece.shared;
    from_defined = copy.value_defined.data() + piece.shared;
  }
  if (copy.reduce != nullptr) {
    for (u32 i = 0; i < piece.bytes; i += copy.element) {
      u64 v = 0;
      std::memcpy(&v, from + i, copy.element);
      ops::update_atomically(*copy.reduce, to + i, v, 0);
    }
    for (u32 i = 0; i < piece.bytes; ++i)
      defined[i] &= from_defined == nullptr ? 0xff : from_defined[i];
  } else if (from == nullptr) {
    fill(to, piece.bytes, copy.element, copy.fill_nan);
    std::memset(defined, 0xff, piece.bytes);
  } else {
    std::memcpy(to, from, piece.bytes);
    if (copy.cut) cut_to_tf32(to, piece.bytes);
    if (from_defined != nullptr) {
      std::memcpy(defined, from_defined, piece.bytes);
    } else {
      std::memset(defined, 0xff, piece.bytes);
      const bool all = piece.all_defined();
      for (u32 i = 0; !all && i < piece.bytes; ++i)
        if (!piece.defined(i)) defined[i] = 0;
    }
  }
  cta.race.finish_write(copy.id, piece.target, piece.bytes);
}

void BulkCopies::read_source(BulkCopy& copy) {
  if (copy.read) return;
  copy.read = true;
  ++cluster_.events;
  for (const BulkCopy::Piece& piece : copy.pieces) {
    const u8* from = copy.source->shared.data() + piece.shared;
    const u8* defined = copy.source->shared_defined.data() + piece.shared;
    copy.value.insert(copy.value.end(), from, from + piece.bytes);
    copy.value_defined.insert(copy.value_defined.end(), defined, defined + piece.bytes);
  }
}

void BulkCopies::write_global(BulkCopy& copy) {
  if (copy.done()) return;
  size_t at = 0;
  bool undefined = false;
  for (const BulkCopy::Piece& piece : copy.pieces) {
    const u8* from = copy.value.data() + at;
    const u8* defined = copy.value_defined.data() + at;
    at += piece.bytes;
    if (piece.allocation == nullptr) continue;
    undefined = undefined || std::memchr(defined, 0, piece.bytes) != nullptr;
    if (copy.reduce == nullptr) {
      std::memcpy(piece.global(), from, piece.bytes);
    } else {
      for (u32 i = 0; i < piece.bytes; i += copy.element) {
        u64 v = 0;
        std::memcpy(&v, from + i, copy.element);
        ops::update_atomically(*copy.reduce, piece.global() + i, v, 0);
        undefined = undefined || !piece.defined(i);
      }
    }
    cluster_.launch.machine.memory.set_defined(*piece.allocation,
                                               piece.allocation->base + piece.offset, piece.bytes);
  }
  copy.next = static_cast<u32>(copy.pieces.size());
  if (undefined) {
    copy.warp->report(FindingKind::kUndefinedStore, *copy.instr, copy.lane,
                      "undefined data is copied to global memory");
  }
}

void BulkCopies::maybe_advance() {
  if (policy_ != Asynchrony::kAny || random_.below(2) == 0) return;
  advance();
}

bool BulkCopies::advance() {
  if (under_way_.empty()) return false;
  BulkCopy& copy = *under_way_[random_.below(static_cast<u32>(under_way_.size()))];
  const auto pieces = static_cast<u32>(copy.pieces.size());
  if (copy.target == nullptr && !copy.read && policy_ == Asynchrony::kAny) {
    read_source(copy);
  } else {
    perform(copy, policy_ == Asynchrony::kAny ? 1 + random_.below(pieces) : kAllPieces);
  }
  erase_done();
  return true;
}

void BulkCopies::erase_done() {
  std::erase_if(under_way_, [](const auto& copy) { return copy->done(); });
}

void BulkCopies::exited(Cta& cta) {
  for (auto& [thread, groups] : groups_) {
    for (Group& group : groups) {
      for (auto& copy : group.copies) {
        if (copy->source != &cta || copy->waited) continue;
        copy->waited = true;
        copy->warp->report(FindingKind::kPendingAtExit, *copy->instr, copy->lane,
                           "the CTA exits without having waited for the copy to read its shared "
                           "memory");
        read_source(*copy);
        cta.race.end_operation(copy->id);
      }
    }
  }
  for (auto& copy : under_way_) {
    if (copy->target != &cta && (copy->source != &cta || copy->target == nullptr)) continue;
    copy->warp->report(FindingKind::kPendingAtExit, *copy->instr, copy->lane,
                       copy->target == &cta
                           ? "the CTA exits while the copy into its shared memory is under way"
                           : "the CTA exits while the copy from its shared memory is under way");
    perform(*copy, kAllPieces);
  }
  erase_done();
}

void BulkCopies::drain() {
  for (auto& copy : under_way_) perform(*copy, kAllPieces);
  under_way_.clear();
}

}  // namespace vgpu
